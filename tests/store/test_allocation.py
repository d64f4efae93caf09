import pytest

from lca.store.run import open_run
from lca.store.run_writer import RunWriter


def test_an_array_that_is_not_in_the_schema_is_an_attribute_error(run):
    allocation = RunWriter(open_run(run, "r+")).create_allocation("train", {})
    with pytest.raises(AttributeError, match="no array 'lcaa'"):
        _ = allocation.lcaa
