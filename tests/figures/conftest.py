import numpy as np
import pytest
from handmade import CONVERGED, LCA, NAN, make_run
from torch import nn

MODEL = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))  # K = 6 + 2 + 2 + 1


@pytest.fixture
def film_run(tmp_path):
    """A run whose LCA is −1 in even and +1 in odd iterations, except for one 0. Iteration 3 is not finite."""
    lca = np.ones((11, 1)) * np.where(np.arange(8) % 2, 1.0, -1.0)
    lca[:, 3] = NAN
    lca[2, 4] = 0
    status, loss = [1, 1, 2, 3, 1, 1, 1, 1], np.linspace(2, 1, 9)
    return make_run(tmp_path / "run.zarr", lca, model=MODEL, status=status, loss=loss, block=4)


@pytest.fixture
def run(tmp_path):
    """The handmade run of four iterations, the last of which is not finite."""
    return make_run(tmp_path / "run.zarr", LCA, status=CONVERGED, loss=[3.0, 2, 1.5, 1, NAN])
