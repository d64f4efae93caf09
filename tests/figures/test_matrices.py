"""The arrangement of parameters as pictures."""

from torch import nn

from lca.figures.matrices import make_matrices
from lca.model.parameters import build_table


def test_each_kind_of_tensor_has_its_arrangement():
    model = nn.Sequential(nn.Linear(64, 3), nn.Conv2d(2, 3, 2, bias=False), nn.Conv2d(2, 3, 1), nn.Linear(64, 2))
    tiled, bias, grid, pointwise, vector, dense, _ = make_matrices(build_table(model))
    assert tiled.places.shape == (
        2 * 9 - 1,
        2 * 9 - 1,
    )  # a grid of 2 × 2 images of 8 × 8 pixels, with lines between them
    assert tiled.places[:8, :8].ravel().tolist() == list(range(64))
    assert tiled.places[:8, 9:17].ravel().tolist() == list(range(64, 128))
    assert (tiled.places[8] == -1).all()
    assert (tiled.places[9:, 9:] == -1).all()  # the fourth image is missing
    assert bias.places.tolist() == [[192, 193, 194]]
    assert grid.places.tolist()[:2] == [[195, 196, -1, 199, 200], [197, 198, -1, 201, 202]]
    assert grid.places.shape == (8, 5)
    assert pointwise.places.shape == (3, 2)
    assert vector.places.shape == (1, 3)
    assert dense.places.shape == (2, 64)  # only the first layer can be drawn as images
    for matrix in (tiled, bias, grid, pointwise, vector, dense):
        index = matrix.places[matrix.places >= 0]
        assert len(set(index.tolist())) == len(index)
