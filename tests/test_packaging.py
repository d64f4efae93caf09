"""The declared dependencies match the imports, and installing the package does not replace an existing PyTorch."""

import ast
import json
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from email import message_from_string
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
NAME = "loss-change-allocation"
DISTRIBUTIONS = packages_distributions()  # importable package -> names of its distributions


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement).group()


def declared():
    """Return the names of the required packages, and those of each extra."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = {extra: lines.split("\n") for extra, lines in setup["options.extras_require"].items()}
    required = setup["options"]["install_requires"].split("\n")
    return (
        {name_of(line) for line in required if line},
        {extra: {name_of(line) for line in lines if line} for extra, lines in extras.items()},
    )


class Imports(ast.NodeVisitor):
    """The packages that a module imports: `at_once`, or `later`, in a function or only for type checking."""

    def __init__(self, path):
        self.at_once, self.later, self._depth = set(), set(), 0
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def _defer(self, node):
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = _defer

    def visit_If(self, node):
        (self._defer if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit)(node)

    def _add(self, module):
        package = module.partition(".")[0]
        if package != "lca" and package not in sys.stdlib_module_names:
            (self.later if self._depth else self.at_once).add(DISTRIBUTIONS[package][0])

    def visit_Import(self, node):
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node):
        assert node.level == 0
        self._add(node.module)


@cache
def imported():
    found = [Imports(path) for path in (ROOT / "lca").rglob("*.py")]
    return set().union(*(each.at_once for each in found)), set().union(*(each.later for each in found))


def test_packages_imported_at_once_are_required():
    required, _ = declared()
    at_once, _ = imported()
    assert at_once - required == set()


def test_required_packages_are_imported():
    required, _ = declared()
    assert required - set.union(*imported()) == set()


def test_packages_imported_later_are_in_an_extra():
    required, extras = declared()
    _, later = imported()
    of_users = {name: packages for name, packages in extras.items() if name != "dev"}
    assert later - required - set.union(*of_users.values()) == set()


def test_dev_extra_contains_every_other_extra():
    """Lightning and transformers are excluded, because they have a separate environment."""
    required, extras = declared()
    needed = set().union(*(packages for name, packages in extras.items() if name not in ("dev", "integrations")))
    assert needed - extras["dev"] == set()
    assert required & extras["dev"] == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, because building leaves files behind
    shutil.copytree(ROOT / "lca", source / "lca", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [*PIP, "wheel", source, "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder]
    subprocess.run(command, check=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel):
    with ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(file.read(name).decode())


def test_torch_is_required_without_an_upper_bound(metadata):
    lines = [line for line in metadata.get_all("Requires-Dist") if name_of(line) == "torch"]
    assert [re.sub(r"\s", "", line) for line in lines] == ["torch>=2.9"]


def test_torchvision_is_required_only_by_extras(metadata):
    lines = [line for line in metadata.get_all("Requires-Dist") if name_of(line) == "torchvision"]
    assert sorted(re.findall(r'extra == "(\w+)"|$', line)[0] for line in lines) == ["datasets", "dev"]


def test_description_has_no_relative_links_and_pictures(metadata):
    """Relative links would be broken on the page of a package index."""
    description = metadata.get_payload()
    prose = re.sub(r"```.*?```|`[^`]*`", "", description, flags=re.S)
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert re.findall(r"\]\((?!https?://)[^)]*\)", prose) == []
    assert not re.search(r"!\[|<img", prose)
    assert "https://arxiv.org/abs/1909.01440" in description
    assert "\\int_0^1" in description
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"```.*?```", description, re.S) == re.findall(r"```.*?```", readme, re.S)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("Read [the page](docs/x.md#part).", "Read the page."),
        ("Read [`code`](docs/x.md) and [here](#below).", "Read `code` and here."),
        ("Read [it](https://a.org/b(c)).", "Read [it](https://a.org/b(c))."),
        ("A\n\n![p](a.png)\n\n*Caption,\ntwo **lines**.*\n\nB", "A\n\nB"),
        ("A\n\n![p](a.png)\n\n**Bold** text.\n", "A\n\n**Bold** text.\n"),
        ("![p](https://a.org/b.png)", "![p](https://a.org/b.png)"),
        ("[![p](a.png)](b.md) A", " A"),
        ('<img src="a.png" width="5"> A', " A"),
        ("```python\ny = x[0](a)\n```\n`x[0](a)`", "```python\ny = x[0](a)\n```\n`x[0](a)`"),
        ("$$f[0](x)$$", "$$f[0](x)$$"),
    ],
)
def test_relative_links_and_pictures_are_removed(markdown, expected):
    spec = spec_from_file_location("setup", ROOT / "setup.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.make_self_contained(markdown) == expected


def pretend_installed(site_packages, name, version):
    """Write the metadata by which pip recognizes an installed package."""
    folder = site_packages / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "INSTALLER").write_text("pip\n")
    (folder / "RECORD").write_text("")


def test_installation_keeps_an_older_torch(wheel, metadata, tmp_path):
    """The environment has all required packages, with torch 2.9, and pip has no index to download from."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=300)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    for line in metadata.get_all("Requires-Dist"):
        if "extra ==" not in line and name_of(line) not in ("torch", "torchvision"):
            pretend_installed(site_packages, name_of(line), "1000.0")
    pretend_installed(site_packages, "torch", "2.9.0")
    target = [*PIP, "--isolated", "--python", environment / "bin" / "python"]
    install = ["install", "--dry-run", "--no-index", "--quiet", "--report", "-", wheel]
    done = subprocess.run([*target, *install], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [each["metadata"]["name"] for each in json.loads(done.stdout)["install"]] == [NAME]
