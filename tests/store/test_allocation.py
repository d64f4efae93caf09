import pytest

from lca.store.run import open_run
from lca.store.run_writer import RunWriter


def test_names_that_are_not_in_the_schema_are_refused(run):
    allocation = RunWriter(open_run(run, "r+")).create_allocation("train", {})
    with pytest.raises(AttributeError, match="no array 'lcaa'"):
        _ = allocation.lcaa
