"""Random damage to the files of a store: every command answers with a message, never with a traceback."""

import json
import random
import shutil

import pytest
from click.testing import CliRunner

import lca
from lca.cli.main import main

COMMANDS = (
    ["info"],
    ["verify"],
    ["verify", "--repair"],
    ["analyze", "layers"],
    ["analyze", "helping"],
    ["allocate", "--by-class", "--gradient-signs", "--examples", "300", "--device", "cpu"],
)
VALUES = (None, -1, 10**12, "x", [], {}, 1.5, True)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "good.zarr"
    lca.train(lca.load("digits-fc"), path, iterations=70, batch_size=100, device="cpu")
    lca.allocate(path, lca.load("digits-fc"), device="cpu", by_class=True, gradient_signs=True, examples=300)
    return path


def list_places(value, place=()):
    """Yield the keys and indices that lead to each value inside a JSON value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*place, key)
        yield from list_places(value[key], (*place, key))


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


@pytest.mark.parametrize("seed", range(40))
def test_damage_never_causes_a_traceback(store, tmp_path, seed):
    path = tmp_path / "run.zarr"
    shutil.copytree(store, path)
    done = damage(path, random.Random(seed))
    for command, *options in COMMANDS:
        words = [options.pop(0)] if command == "analyze" else []
        result = CliRunner().invoke(main, [command, *words, str(path), *options])
        assert result.exception is None or isinstance(result.exception, SystemExit), (done, command, result.exception)
