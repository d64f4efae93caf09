import torch

from lca.training.batch_order import draw_indices


def test_every_epoch_is_a_new_permutation_without_the_last_partial_batch():
    drawn = draw_indices(50, 8, seed=0)
    epochs = [torch.cat([next(drawn) for _ in range(6)]).tolist() for _ in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 48
        assert set(epoch) <= set(range(50))
    assert epochs[0] != epochs[1] != epochs[2]
