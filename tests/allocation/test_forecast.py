import pytest

import lca
from lca.allocation.full_gradient import FullGradient


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"audit": 0},
        {"audit": 0.2},
        {"rule": "trapezoid"},
        {"rule": "first-order"},
        {"iterations": "10:20"},
        {"iterations": "60:90:3"},
    ],
)
def test_the_forecast_is_the_number_of_passes_that_follow(run, problem, monkeypatch, options):
    done, forecast, original = [], [], FullGradient._evaluate

    def counting(self, *arguments):
        done.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(FullGradient, "_evaluate", counting)
    config = lca.AllocateConfig(tolerance=1e9, total_tolerance=1e9, batch_size=20, device="cpu", **options)
    lca.allocate(run, problem(), config, on_preflight=lambda checked: forecast.append((checked.n_passes, len(done))))
    [(n_passes, before)] = forecast
    assert len(done) - before == n_passes
