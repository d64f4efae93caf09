import torch
from torch import nn

from lca.model.parameters import build_table, flatten
from lca.model.vectors import make_views, norm_by_tensor, sum_by_tensor


def test_views_and_flatten_are_inverse():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    theta = flatten(model)
    for view, parameter in zip(make_views(theta, build_table(model)), model.parameters(), strict=True):
        assert torch.equal(view, parameter)
        assert view.data_ptr() >= theta.data_ptr()


def test_sums_and_norms_by_tensor():
    vector = torch.arange(10, dtype=torch.float64)
    lengths = torch.tensor([3, 1, 6])
    assert sum_by_tensor(vector, lengths).tolist() == [3, 3, 39]
    expected = [vector[:3].norm(), vector[3:4].norm(), vector[4:].norm()]
    torch.testing.assert_close(norm_by_tensor(vector, lengths), torch.stack(expected))
