"""How the output of a command is compared with what a page of the documentation shows."""

from refresh_docs import find_commands, mask_numbers

__all__ = ["assert_shown", "find_commands", "without_numbers"]


def without_numbers(text):
    """Return the lines of a text, with every number replaced by #."""
    return [mask_numbers(line) for line in text.strip().splitlines()]


def assert_shown(shown, printed):
    """Assert that every part of `shown` between two ellipses is printed, ignoring the numbers."""
    found = without_numbers(printed)
    for part in shown.split("…\n"):
        lines = without_numbers(part)
        assert any(found[i : i + len(lines)] == lines for i in range(len(found) + 1)), (lines, found)
