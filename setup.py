"""Build the package; setup.cfg has its metadata, except for the description.

The description on the package index is README.md without relative links and pictures, which would not work there.
"""

import re
from pathlib import Path

from setuptools import setup

CODE = r"```.*?```|`[^`]*`|\$\$.*?\$\$"
RELATIVE = r"(?!\w+:|//)"
CAPTION = r"\n+\*(?=[^\s*])(?:(?!\n\n).)*\*(?=\n\n|\Z)"  # a paragraph in italics
PICTURE = rf'(?:!\[[^\]]*\]\({RELATIVE}[^)]*\)|<img[^>]*src="{RELATIVE}[^>]*>)(?:{CAPTION})?\n*'
LINK = rf"\[(?P<text>(?:[^\[\]`]|`[^`]*`|!\[[^\]]*\]\([^)]*\))*)\]\({RELATIVE}[^)]*\)"
PATTERN = re.compile(rf"(?P<code>{CODE})|{PICTURE}|{LINK}", re.S)


def make_self_contained(markdown: str) -> str:
    """Drop pictures with relative paths and their captions, and replace relative links with their text."""
    without_pictures = PATTERN.sub(lambda match: match["code"] or match["text"] or "", markdown)
    return PATTERN.sub(lambda match: match["code"] or match["text"] or "", without_pictures)  # links around pictures


if __name__ == "__main__":
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    setup(long_description=make_self_contained(readme))
