import numpy as np
import zarr

from lca.store.run import open_run
from lca.store.run_writer import RunWriter
from lca.store.schema import ARRAYS


def test_a_store_has_the_arrays_and_attributes_of_the_schema(run):
    RunWriter(open_run(run, "r+")).create_allocation(
        "train", {"classes": [3, 5]}, ["lca", "class_lca", "gradient_sign"]
    )
    group = zarr.open_group(run, mode="r")
    attributes = group.attrs["lca"]
    assert {"schema", "versions", "status", "problem", "problem_options", "train", "splits", "parameters"} <= set(
        attributes
    )
    assert attributes["splits"]["train"]["examples"] == 60
    assert len(attributes["splits"]["train"]["sha256"]) == 64
    assert set(attributes["parameters"][0]) == {"name", "shape", "offset", "size", "layer", "kind"}
    weights = group["weights"]
    assert (weights.shape, weights.dtype, weights.metadata.dimension_names) == (
        (51, 101),
        "float32",
        ("parameter", "iterate"),
    )
    assert weights.chunks == (51, 64)
    assert np.isnan(weights.fill_value)
    assert group["training/loss"].shape == group["training/learning_rate"].shape == (100,)
    assert set(group["lca/train"].array_keys()) == {*ARRAYS, "checksums"}
    for name, (dtype, dimensions, _) in ARRAYS.items():
        array = group["lca/train"][name]
        sizes = {"parameter": 51, "iteration": 100, "iterate": 101, "tensor": 4, "block": 2, "class": 2, "packed": 7}
        assert array.shape == tuple(sizes[d] for d in dimensions)
        assert (array.dtype, array.metadata.dimension_names) == (dtype, dimensions)
        missing = array[:]
        assert np.isnan(missing).all() if array.dtype.kind == "f" else (missing == 0).all(), name
