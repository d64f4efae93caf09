"""The layout of matrices on the canvas of a film."""

import numpy as np
import torch
from handmade import NAN
from matplotlib.figure import Figure
from torch import nn

from lca.figures.canvas import Panel, lay_out
from lca.figures.matrices import Matrix
from lca.model.parameters import build_table


def test_matrix_larger_than_its_panel_is_averaged():
    values = np.append(np.arange(12.0), NAN)
    places = np.arange(12).reshape(2, 6)
    places[1, 5] = -1
    panel = Panel.fit(Matrix("w", places), 0, 0, width=3, height=2)
    assert panel.step == (1, 2)
    np.testing.assert_allclose(panel.average(values), [[0.5, 2.5, 4.5], [6.5, 8.5, 10]])
    large = Panel.fit(Matrix("w", places), 0, 0, width=60, height=80)
    assert (large.step, len(large.rows), len(large.columns)) == (
        (1, 1),
        60,
        60,
    )  # stretched by a factor of three at most


def test_many_vectors_in_a_layer_stay_on_the_canvas():
    model = nn.Module()
    model.many = nn.ParameterDict({f"v{i}": nn.Parameter(torch.zeros(3)) for i in range(200)})
    table = build_table(model)
    panels = lay_out(table, table.layers, Figure(), 320, 240)
    assert 0 < len(panels) < 200
    assert all(panel.top + len(panel.rows) <= 240 for panel in panels)
