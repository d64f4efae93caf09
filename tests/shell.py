"""Commands of lca, run inside the process of the test."""

from click.testing import CliRunner

from lca.cli.main import main


def call(*arguments, status=0):
    """Run `lca ARGUMENTS`, check its exit status, and return the result. Unexpected exceptions are raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result
