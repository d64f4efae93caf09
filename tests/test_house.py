"""House rules: sizes of functions and classes, and a library that does not mention the command line."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "lca").rglob("*.py"))
SHELL = re.compile(r"(?<![\w-])--[a-z][a-z-]+|`lca |\blca (train|allocate|analyze|plot|verify|info|check|import|init) ")
MENTIONS_SHELL = {"cli", "starter.py"}  # the template of a problem explains how to run it
LIBRARY = [path for path in MODULES if not MENTIONS_SHELL & set(path.relative_to(ROOT / "lca").parts)]


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_and_classes_are_small(path):
    limits = {ast.FunctionDef: 60, ast.AsyncFunctionDef: 60, ast.ClassDef: 200}
    for node in ast.walk(parse(path)):
        if type(node) in limits:
            assert node.end_lineno - node.lineno + 1 <= limits[type(node)], f"{node.name} in line {node.lineno}"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_mentions_no_option_and_no_command(path):
    """Remedies consist of arguments and calls, which the command line renders in its own syntax."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not SHELL.search(node.value), f"line {node.lineno}: {node.value!r}"
