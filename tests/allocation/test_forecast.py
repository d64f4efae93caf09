"""The forecasts of the preflight, compared with the actual cost of the allocation."""

import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from conftest import small_problem
from torch import nn

import lca
from lca.allocation.forecast import forecast_disk_bytes
from lca.allocation.full_gradient import FullGradient

# The forecasts assume that no iteration is refined.
SMOOTH = {"tolerance": 1e9, "total_tolerance": 1e9, "batch_size": 20, "device": "cpu"}
# Bytes that the codec and the checksum add to each incompressible chunk.
CHUNK_HEADER = 64
RULES = ("simpson", "trapezoid", "first-order")
SLICES = (None, "10:20", "60:90:3")
PASSES = [
    {"rule": rule, "audit": audit, "iterations": iterations}
    for rule, audit, iterations in product(RULES, (0.0, 0.1), SLICES)
] + [{"keep": "tensors", "rule": rule} for rule in RULES]


@pytest.fixture
def gradients(monkeypatch):
    """The list of FullGradient objects in the order in which they were entered. The last one makes the allocation."""
    entered, original = [], FullGradient.__enter__

    def enter(self):
        entered.append(self)
        return original(self)

    monkeypatch.setattr(FullGradient, "__enter__", enter)
    return entered


def add_groups(problem):
    return replace(problem, groups=lambda batch: batch[1])


@pytest.mark.parametrize("options", PASSES, ids=lambda options: " ".join(map(str, options.values())))
def test_forecast_equals_the_number_of_passes(run, problem, gradients, options):
    forecast, before = [], []

    def remember(checked):
        forecast.append(checked.n_passes)
        before.append(gradients[-1].n_passes)

    lca.allocate(run, problem(), on_preflight=remember, **SMOOTH, **options)
    assert [gradients[-1].n_passes - before[0]] == forecast


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_signs": True},
        {"keep": "tensors"},
        {"keep": "tensors", "gradient_signs": True},
        {"by_class": True},
        {"by_class": True, "gradient_signs": True},
        {"iterations": "0:100:2"},
        {"iterations": "0:100:10", "gradient_signs": True},
        {"iterations": "0:100:30"},
        {"iterations": "3:70"},
    ],
    ids=lambda options: " ".join(map(str, options.values())) or "default",
)
def test_forecast_bounds_the_bytes_on_disk(run, problem, options):
    forecast = []
    lca.allocate(
        run, add_groups(problem()), on_preflight=lambda c: forecast.append(c.disk_bytes), audit=0, **SMOOTH, **options
    )
    allocation = lca.open(run).allocation("train")
    if "iterations" not in options:  # the forecast of a slice does not count the rest of the arrays
        assert forecast == [sum(getattr(allocation, name).nbytes for name in allocation.arrays)]
    files = [file for file in Path(str(allocation.path)).rglob("*") if file.is_file() and file.name != "zarr.json"]
    written = sum(file.stat().st_size for file in files)
    assert written <= forecast[0] + CHUNK_HEADER * len(files)


@pytest.mark.parametrize(("signs", "factor"), [(False, 1), (True, 1 + 1 / 32)])
def test_gradient_signs_add_one_bit_per_parameter(tmp_path, signs, factor):
    """With 60,000 parameters, 4 bytes per LCA value and 1 bit per sign dominate everything else."""
    model = nn.Linear(3, 20_000, bias=False)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for _ in range(10):
            recorder.record()
    opened, config = lca.open(tmp_path / "run.zarr"), lca.AllocateConfig(gradient_signs=signs)
    assert forecast_disk_bytes(opened, config, range(10), 0) == pytest.approx(4 * 60_000 * 10 * factor, rel=0.01)


def make_wide_problem(width):
    net = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3))
    return small_problem(model=net)


@pytest.mark.parametrize("width", [100, 600], ids="{} units".format)  # blocks of 2.7 MB and of 93 MB
def test_peak_memory_is_between_half_the_forecast_and_the_forecast(tmp_path, width):
    torch.manual_seed(0)
    given = make_wide_problem(width)
    with lca.Recorder(tmp_path / "run.zarr", given.model) as recorder:
        for _ in range(70):  # two blocks
            with torch.no_grad():
                for parameter in given.model.parameters():
                    parameter.mul_(0.999).add_(1e-3 * torch.randn_like(parameter))
            recorder.record()
    program = (
        "import sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\n"
        "import lca\n"
        "from lca.runtime.host import get_peak_memory_bytes\n"
        "from test_forecast import make_wide_problem\n"
        "forecast = []\n"
        "on_preflight = lambda checked: forecast.append(checked.memory_bytes)\n"
        f"given = make_wide_problem({width})\n"
        "lca.allocate(sys.argv[1], given, on_preflight=on_preflight, batch_size=60, device='cpu')\n"
        "print(forecast[0], get_peak_memory_bytes())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    forecast, peak = map(int, done.stdout.split())
    assert peak <= forecast <= 2 * peak
