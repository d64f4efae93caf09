"""`lca check` prints the parameters and a forecast, and writes nothing."""

from click.testing import CliRunner

import lca
from lca.cli.main import main


def test_check_prints_parameters_and_forecast(tmp_path):
    path = str(tmp_path / "run.zarr")
    for arguments in (["train", "digits-fc", "--iterations", "5", "--out", path], ["check", path]):
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert "fc1.weight  32×64  recorded" in result.stdout
    assert "forecast  71 passes of" in result.stdout
    assert lca.open(path).allocations == []
