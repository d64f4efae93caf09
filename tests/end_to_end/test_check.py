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
    # 2 · 5 + 1 for the iterations, and 9 for each of the five audited ones.
    assert "forecast  56 passes of" in result.stdout
    assert (
        "judging from the gradients that iterations took (2 in iteration 0, 2 in iteration 1, 2 in iteration 4)"
        in result.stdout
    )
    assert lca.open(path).allocations == []
