import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import simulated_device  # noqa: F401 (registers the device before the first backward pass)
import torch
from processes import Server
from torch import nn

import lca
from lca.store import chunks
from lca.store.remote import Remote

chunks.LONGEST_BLOCK = chunks.BLOCK  # so that the short runs of the tests have several blocks
Remote.retry_s = (0.0,)


def pytest_addoption(parser):
    parser.addoption(
        "--damage-cases", type=int, default=25, help="Number of random cases of damage and of hostile metadata."
    )


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", range(metafunc.config.getoption("--damage-cases")))


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="needs CUDA"))


@pytest.fixture
def problem():
    """A function that creates the same small problem every time: 60 points in three clouds, and a 2-8-3 tanh net."""
    return small_problem


def small_problem(seed=0, model=None, n_examples=60):
    generator = torch.Generator().manual_seed(7)
    centers = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])

    def examples(n):
        y = torch.arange(n) % 3
        return centers[y] + torch.randn(n, 2, generator=generator), y

    if model is None:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))
    return lca.Problem(model, train=examples(n_examples), val=examples(15), name="small")


@pytest.fixture
def run(tmp_path, trained):
    """The path of a run with 100 iterations (two blocks) and no allocation."""
    return shutil.copytree(trained, tmp_path / "run.zarr")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run.zarr"
    lca.train(small_problem(), path, lca.TrainConfig(batch_size=20, iterations=100, learning_rate=0.1, device="cpu"))
    return path


@pytest.fixture(scope="session")
def server():
    """Starts commands in processes of their own."""
    with Server() as server:
        yield server


@pytest.fixture
def clean_imports(monkeypatch, tmp_path_factory):
    """Remove the user code of other tests from sys.path and sys.modules, as if in a new process."""
    base = tmp_path_factory.getbasetemp()

    def forget():
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and Path(file).is_relative_to(base):
                del sys.modules[name]

    monkeypatch.setattr(sys, "path", [place for place in sys.path if not Path(place).is_relative_to(base)])
    forget()
    yield
    forget()


MINE = """
import torch
from torch import nn
import lca
import helper

def problem(hidden: int = 4, rate=0.5, name="a", wide=False):
    model = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))
    assert isinstance(hidden, int) and isinstance(rate, float) and isinstance(name, str) and isinstance(wide, bool)
    x = torch.linspace(-1, 1, 40).reshape(20, 2)
    return lca.Problem(model, train=(x, (x[:, 0] > 0).long()), name="ignored")

def needs(size): ...

def free(**anything):
    raise RuntimeError(f"with {anything}")

def other():
    return 7

def _hidden(): ...
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, clean_imports):
    """The current folder, which contains a problem file, a module that it imports, faulty files and a package."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "broken.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    (tmp_path / "ending.py").write_text("import sys\n\nsys.exit(2)\n")
    (tmp_path / "needing.py").write_text("import no_such_package\n")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "module.py").write_text("from mine import problem\n")
    return tmp_path


@pytest.fixture
def limited_memory():
    """A function that returns a context in which this process can take at most 500 MB of additional memory."""
    resource = pytest.importorskip("resource", reason="this system has no memory limits")

    @contextmanager
    def limit(n_bytes=500 * 2**20):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + n_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    return limit
