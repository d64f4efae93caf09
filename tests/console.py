"""What a document shows of a console, and how it is compared with what a command prints."""

import re
import shlex


def find_commands(text):
    """(arguments, printed) of each command that Markdown shows with a $ prompt."""
    for block in re.findall(r"```console\n(.*?)```", text, re.S):
        for command in re.findall(r"^\$ (.*(?:\n(?!\$ ).*)*)", block, re.M):
            line, _, printed = command.partition("\n")
            yield shlex.split(line), printed


def without_numbers(text):
    """Its lines, with # for each number, and without what depends on the width of a column or the size of a file."""
    text = re.sub(r"-?\d[\d,]*(\.\d+)?(e[+-]\d+)?", "#", text.strip())
    text = re.sub(r"[▁-█·]+", "▁", text)
    lines = [re.sub(r"\s+|─+", " ", line).strip() for line in text.splitlines()]
    return [re.sub(r"[kM]B", "B", line) for line in lines]
