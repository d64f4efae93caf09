"""Random damage to the files of a store. Every command answers with an error or with the same numbers as before.

`pytest tests/end_to_end/test_damage.py --damage-cases 2000` tries more cases than the default.
"""

import json
import os
import random
import re
import shutil
from itertools import count
from signal import SIGTERM

import numpy as np
import pytest
from attacks import ALLOCATE, RESUME, call, list_places, require_message

import lca
from lca.errors import Interrupted

VALUES = (None, -1, 10**12, "x", [], {}, 1.5, True)
FIGURE = "figure.png"
COMMANDS = (["info", "RUN"], ALLOCATE, ["analyze", "all", "RUN"], ["plot", "helping", "RUN", "--out", FIGURE])


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A folder with two runs: `whole` has an allocation, and the training of `half` is unfinished."""
    folder = tmp_path_factory.mktemp("damage")
    problem, n_calls = lca.load("digits-fc"), count()
    problem.model.register_forward_pre_hook(lambda *_: os.kill(os.getpid(), SIGTERM) if next(n_calls) == 100 else None)
    with pytest.raises(Interrupted):
        lca.train(problem, folder / "half", iterations=140, batch_size=100, device="cpu")
    shutil.copytree(folder / "half", folder / "whole")
    for words in ([*RESUME, "--resume"], ALLOCATE):
        result = call(folder / "whole", *words)
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def expected(stores, tmp_path_factory):
    """What each command prints or draws without damage, and the numbers."""
    folder = tmp_path_factory.mktemp("expected")
    answers = {}
    for name, *words in COMMANDS:
        result = call(stores / "whole", name, *[str(folder / word) if word == FIGURE else word for word in words])
        assert result.exit_code == 0, result.output
        answers[name] = describe(result, stores / "whole", folder)
    return answers, read_numbers(stores / "whole")


def read_numbers(path):
    """Return all arrays of a run and its allocations, by name."""
    run = lca.open(path)
    arrays = {"weights": run.weights[:]} | {name: array[:] for name, array in run.training.items()}
    for name in run.allocations:
        allocation = run.allocation(name)
        arrays |= {f"{name}/{array}": allocation.read(array) for array in allocation.arrays}
    return arrays


def describe(result, path, folder):
    """Return what a command printed or drew, apart from paths, sizes on disk and durations."""
    text = re.sub(r".*on disk.*\n", "", result.output.replace(str(path), "RUN").replace(str(folder), ""))
    figure = folder / FIGURE
    content = figure.read_bytes() if figure.exists() else b""
    figure.unlink(missing_ok=True)
    return re.sub(r"\d[\d.]* (ms|s|min|h)\b", "", text), content


def damage(store, random):
    """Damage one file of a store in a random way. Metadata are damaged as often as chunks."""
    files = [path for path in sorted(store.rglob("*")) if path.is_file() and "lock" not in path.name]
    metadata = [path for path in files if path.name == "zarr.json"]
    path = random.choice(random.choice([files, metadata]))
    content = path.read_bytes()
    kind = random.choice(["flip", "truncate", "delete", "swap", "replace", "change"])
    if kind == "delete":
        path.unlink()
    elif kind == "truncate":
        path.write_bytes(content[: random.randrange(len(content) + 1)])
    elif kind == "replace":
        path.write_bytes(random.randbytes(random.randrange(200)))
    elif kind == "swap":
        other = random.choice(files)
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
    elif kind == "change" and path.name == "zarr.json":
        values = json.loads(content)
        *outer, last = random.choice(list(list_places(values)))
        inner = values
        for key in outer:
            inner = inner[key]
        if random.random() < 0.2:
            del inner[last]
        else:
            inner[last] = random.choice(VALUES)
        path.write_text(json.dumps(values))
    elif content:
        at = random.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :])
    return f"{kind} {path.relative_to(store)}"


def test_damage_is_reported_or_makes_no_difference(stores, expected, tmp_path, case):
    path, answers = tmp_path / "run", expected[0]
    shutil.copytree(stores / "whole", path)
    done = damage(path, random.Random(case))
    for name, *words in COMMANDS:
        result = call(path, name, *[str(tmp_path / word) if word == FIGURE else word for word in words])
        require_message(result, done, name)
        if result.exit_code == 0 and "damaged" not in result.output:
            assert describe(result, path, tmp_path) == answers[name], (done, name)
    repair(path, done, expected[1])


def test_resuming_a_damaged_training_fails_or_makes_no_difference(stores, expected, tmp_path, case):
    path = tmp_path / "run"
    shutil.copytree(stores / "half", path)
    done = damage(path, random.Random(case))
    result = call(path, *RESUME, "--resume")
    require_message(result, done, "resume")
    if result.exit_code == 0 and call(path, "verify", "RUN").exit_code == 0:
        np.testing.assert_array_equal(read_numbers(path)["weights"], expected[1]["weights"], err_msg=done)


def repair(path, done, numbers):
    """Repair a store and compute what is missing. If this succeeds, all numbers are those without damage."""
    for words in (["verify", "RUN"], ["verify", "RUN", "--repair"], [*RESUME, "--resume"], ALLOCATE, ["verify", "RUN"]):
        result = call(path, *words)
        require_message(result, done, words[0])
        sound = words[0] == "verify" and result.exit_code == 0
        if sound:
            break
    if sound:
        found = read_numbers(path)
        for name in found:
            was_cleared = name in ("loss", "learning_rate", "moved") and np.isnan(found[name]).any()
            assert was_cleared or np.array_equal(found[name], numbers[name], equal_nan=True), (done, name)
