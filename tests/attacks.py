"""Helpers for the tests of damaged and hostile stores."""

from click.testing import CliRunner

from lca.cli.main import main

ALLOCATE = ["allocate", "RUN", "--by-class", "--gradient-signs", "--examples", "300", "--device", "cpu"]
RESUME = ["train", "digits-fc", "--out", "RUN", "--iterations", "140", "--batch-size", "100", "--device", "cpu"]


def call(path, *words):
    return CliRunner().invoke(main, [str(path) if word == "RUN" else word for word in words])


def list_places(value, place=()):
    """Yield the keys and indices that lead to each value inside a JSON value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*place, key)
        yield from list_places(value[key], (*place, key))


def require_message(result, *about):
    assert result.exception is None or isinstance(result.exception, SystemExit), (*about, result.exception)
