import numpy as np

import lca
from lca.store.schema import Status


def read(path, name="train"):
    allocation = lca.open(path).allocation(name)
    return {array: np.asarray(getattr(allocation, array)[:]) for array in allocation.arrays}


def test_large_steps_are_refined_and_reaching_the_limit_is_reported(tmp_path, problem):
    config = lca.TrainConfig(batch_size=20, iterations=20, learning_rate=8.0, momentum=0.9, device="cpu")
    lca.train(problem(), tmp_path / "wild.zarr", config)
    summary = lca.allocate(tmp_path / "wild.zarr", problem(), lca.AllocateConfig(device="cpu"))
    assert summary.refined > 0
    limited = lca.allocate(
        tmp_path / "wild.zarr", problem(), lca.AllocateConfig(name="short", max_intervals=4, device="cpu")
    )
    stored = read(tmp_path / "wild.zarr", "short")
    assert limited.unconverged == (stored["status"] == Status.AT_LIMIT).sum() > 0
    assert (stored["intervals"][stored["status"] == Status.AT_LIMIT] == 4).all()
    assert not limited.within_bounds
