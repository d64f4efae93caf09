"""`lca check` prints the parameters and a forecast, and writes nothing."""

import pytest
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
        "judging from the gradients that some iterations needed (2 in iteration 0, 2 in iteration 1, 2 in iteration 4)"
        in result.stdout
    )
    assert lca.open(path).allocations == []


def test_check_of_a_problem_forecasts_a_training_that_has_not_begun(tmp_path, monkeypatch):
    """The disk space is that of the arrays before compression: K (T + 1) float32 for the iterates."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["check", "digits-fc", "--iterations", "1000"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    K = sum(parameter.numel() for parameter in lca.load("digits-fc").model.parameters())
    checked = lca.forecast(lca.load("digits-fc"), 1_000)
    assert checked.run_bytes == 4 * K * 1_001
    # 2 · 1,000 + 1 for the iterations, and 9 for each of the 20 drawn and the 3 chosen ones that are audited.
    assert checked.n_passes == 2_208
    assert "forecast  2208 passes of" in result.stdout.replace(",", "")
    assert f"Up to {4 * K * 1_001 / 1e6:.3g} MB for the run and" in result.stdout
    assert "if no iteration is refined" in result.stdout
    assert list(tmp_path.iterdir()) == []
    run = lca.train(lca.load("digits-fc"), "run.zarr", iterations=100, device="cpu")
    before, after = lca.forecast(lca.load("digits-fc"), 100), lca.check(run.path.path, lca.load("digits-fc"))
    assert (before.n_passes, before.disk_bytes) == (after.n_passes, after.disk_bytes)


@pytest.mark.parametrize("iterations", [[], ["--iterations", "0:10"]])
def test_check_of_a_problem_needs_the_number_of_iterations(iterations):
    result = CliRunner().invoke(main, ["check", "digits-fc", *iterations])
    assert result.exit_code == 2
    assert "expected the number of iterations that digits-fc will be trained for" in result.stderr
    assert CliRunner().invoke(main, ["check", "digits-fx", *iterations]).exit_code == 2
