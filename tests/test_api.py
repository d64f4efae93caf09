"""The public interface is complete and typed, and reading a store does not import torch."""

import inspect
import subprocess
import sys
import types
import typing
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import lca
from lca.errors import LCAError
from lca.store.summary import BOUNDS_HOLD, summarize

# Methods of the writers, which a run or an allocation opened for reading must not have.
INTERNAL = {
    "truncate",
    "write_block",
    "write_iterates",
    "write_iteration",
    "lock",
    "commit",
    "finish",
    "reopen",
    "undo",
}


@pytest.fixture
def allocated(run, problem):
    lca.allocate(run, problem(), batch_size=20, audit=0, device="cpu")
    return lca.open(run)


@pytest.mark.parametrize("name", lca.__all__)
def test_every_public_name_resolves(name):
    assert getattr(lca, name) is not None
    assert name in dir(lca)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'lca' has no attribute 'alocate'"):
        _ = lca.alocate


def test_names_for_type_checkers_match_the_lazy_imports():
    source = Path(lca.__file__).read_text(encoding="utf-8")
    block = source.split("if TYPE_CHECKING:\n")[1].split("\n\n    open = open_run")[0]
    for line in block.splitlines():
        _, module, _, names = line.strip().split(" ", 3)
        name, _, public = names.partition(" as ")
        public = public or "open"
        assert getattr(lca, public) is (
            import_module(f"{module}.{name}") if module == "lca" else getattr(import_module(module), name)
        ), line
        assert public in lca.__all__


def test_the_version_is_that_of_the_package():
    assert lca.__version__ == version("loss-change-allocation")


def list_functions():
    """Return all public functions and methods by name."""
    found = {}
    for name in lca.__all__:
        thing = getattr(lca, name)
        if inspect.isfunction(thing):
            found[name] = thing
        elif inspect.isclass(thing) and thing.__module__.startswith("lca."):
            for member, method in vars(thing).items():
                function = method.fget if isinstance(method, property) else getattr(method, "__func__", method)
                if inspect.isfunction(function) and (not member.startswith("_") or member in ("__init__", "__call__")):
                    found[f"{name}.{member}"] = function
    return found


def find_classes(hint):
    """Return all classes in a type hint."""
    if isinstance(hint, (list, tuple)):
        return [c for part in hint for c in find_classes(part)]
    arguments = typing.get_args(hint)
    if arguments or isinstance(hint, types.UnionType):
        return [c for part in arguments for c in find_classes(part)]
    return [hint] if inspect.isclass(hint) else []


# Types in the interface that users never create: resolved paths and URLs, and parts of the store.
PARTS = {"Local", "Remote", "Blocks"}


@pytest.mark.parametrize("name", list_functions())
def test_argument_and_return_types_of_public_functions_are_public(name):
    function = list_functions()[name]
    names = {"Dataset": object, **vars(import_module(function.__module__))}  # xarray is imported only when used
    public = {getattr(lca, each) for each in lca.__all__ if inspect.isclass(getattr(lca, each))}
    hints = typing.get_type_hints(function, globalns=names)
    hidden = [
        found.__name__
        for found in find_classes(list(hints.values()))
        if found.__module__.startswith("lca.") and found not in public and found.__name__ not in PARTS
    ]
    assert hidden == []


def test_every_error_class_is_public():
    def subclasses(kind):
        return {kind}.union(*(subclasses(each) for each in kind.__subclasses__()))

    found = {kind for kind in subclasses(LCAError) if kind.__module__.startswith("lca.")}
    assert found == {lca.LCAError, lca.UsageError, lca.DamagedError, lca.Interrupted}


READ = """
import sys
import lca
run = lca.open(sys.argv[1])
allocation = run.allocation()
str(run), repr(allocation), str(lca.summarize(allocation)), str(lca.verify(sys.argv[1])), allocation.lca[:1]
print([name for name in ("torch", "matplotlib", "plotly", "click") if name in sys.modules])
"""


def test_reading_a_store_imports_neither_torch_nor_matplotlib(allocated):
    done = subprocess.run(
        [sys.executable, "-c", READ, str(allocated.path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_importing_lca_imports_nothing_else():
    code = "import sys, lca; print(sorted(name for name in sys.modules if name in ('numpy', 'zarr', 'torch')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_run_and_an_allocation_have_no_writing_methods(allocated):
    for thing in (allocated, allocated.allocation()):
        assert INTERNAL.isdisjoint(dir(thing)), INTERNAL & set(dir(thing))
    assert {"lca", "loss", "status", "read", "attributes", "parameters"} <= set(dir(allocated.allocation()))
    assert {"weights", "parameters", "allocation", "allocations", "to_xarray"} <= set(dir(allocated))


def test_the_repr_of_a_run_describes_it(allocated):
    text = repr(allocated)
    assert f"{allocated.path}, complete" in text
    assert "101 iterates; 51 parameters in 4 tensors" in text
    assert "100 of 100 iterations allocated" in text
    assert len(text) < 2_000


def test_the_repr_of_an_unfinished_run_says_so(tmp_path, problem):
    with pytest.raises(ZeroDivisionError), lca.Recorder(tmp_path / "run.zarr", problem().model) as recorder:
        recorder.record()
        raise ZeroDivisionError
    assert f"{tmp_path / 'run.zarr'}, training" in repr(lca.open(tmp_path / "run.zarr"))


def test_the_repr_of_an_allocation_describes_it(allocated):
    text = repr(allocated.allocation())
    assert f"{allocated.path}/lca/train, complete" in text
    assert "lca 51×100" in text
    assert "mean over all 60 examples of the train split" in text
    assert "below zero helps" in text
    assert len(text) < 2_000


def test_the_text_of_a_summary_is_the_certificate(allocated):
    text = str(summarize(allocated.allocation()))
    assert text.startswith("allocated")
    assert f"100 iterations of {allocated.path} into lca/train" in text
    assert text.splitlines()[-1].split(None, 1) == ["bounds", BOUNDS_HOLD]


def test_notebooks_show_runs_allocations_and_certificates_as_tables(allocated):
    for thing in (allocated, allocated.allocation(), summarize(allocated.allocation())):
        html = thing._repr_html_()
        assert html.startswith("<table>")
        assert html.count("<tr>") == len(thing.facts())
        for word in ("http", "<script", "<style", "color"):
            assert word not in html


def test_the_html_of_a_run_is_escaped(allocated):
    allocated.attributes["command"] = "lca train <b>&"
    assert "lca train &lt;b&gt;&amp;" in allocated._repr_html_()
