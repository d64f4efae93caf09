"""Metadata with random values and a valid digest, as a stranger could prepare them. Time and memory are bounded.

`pytest tests/end_to_end/test_hostile.py --damage-cases 200` tries more cases than the default.
"""

import json
import random
import shutil
import time

import pytest
from attacks import ALLOCATE, call, list_places, require_message

import lca
from lca.store.attributes import _digest

VALUES = (
    *(None, -1, 0, 1, 3, 10**9, 10**12, 10**30, -0.5, 1e308, float("nan"), float("inf"), True, False),
    *("", "x", "\x1b]0;owned\x07", "../../x", "digits-fc", "x" * 10**6, [], [[]], [10**9] * 2, {}, {"x": {}}),
)
COMMANDS = (["info", "RUN"], ["verify", "RUN"], ["analyze", "all", "RUN"], ["plot", "layers", "RUN", "--out", "FIGURE"])
LONGEST_S = 30


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "good"
    lca.train(lca.load("digits-fc"), path, iterations=70, batch_size=100, device="cpu")
    assert call(path, *ALLOCATE).exit_code == 0
    return path


def change(path, random):
    """Replace or remove one to three random values in the metadata of a random group or array, and renew its digest."""
    file = random.choice(sorted(path.rglob("zarr.json")))
    metadata = json.loads(file.read_text())
    attributes = metadata["attributes"].get("lca", metadata)
    changed = []
    for _ in range(random.choice([1, 1, 2, 3])):
        *outer, last = place = random.choice(list(list_places(attributes)))
        inner = attributes
        for key in outer:
            inner = inner[key]
        value = random.choice(VALUES)
        if random.random() < 0.15:
            del inner[last]
        else:
            inner[last] = value
        changed.append((place, str(value)[:30]))
    if attributes is not metadata:
        attributes.pop("digest", None)
        attributes["digest"] = _digest(attributes)
    file.write_text(json.dumps(metadata))
    return str(file.relative_to(path)), changed


def test_hostile_metadata_are_refused_or_used(store, tmp_path, case, limited_memory):
    path = tmp_path / "run"
    shutil.copytree(store, path)
    done = change(path, random.Random(case))
    for words in (*COMMANDS, ALLOCATE):
        begin = time.monotonic()
        with limited_memory(2**30):
            result = call(path, *[str(tmp_path / "a.png") if word == "FIGURE" else word for word in words])
        require_message(result, done, words[0])
        assert "\x1b" not in result.output, (done, words[0])
        assert time.monotonic() - begin < LONGEST_S, (done, words[0])
    assert sorted(each.name for each in tmp_path.iterdir()) in (["run"], ["a.png", "run"])
