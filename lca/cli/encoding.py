"""Readable output to streams with a limited encoding: missing characters are replaced by similar ASCII text."""

import codecs
import sys
from encodings import ascii
from io import TextIOWrapper

READABLE = "lca.readable"  # the name of the error handler
PLAIN_ASCII = "lca_ascii"  # ASCII under another name, because click writes UTF-8 to a stream in "ascii"
# Python's default error handlers for stdout. Any other handler was chosen by the user through PYTHONIOENCODING.
PYTHONS_CHOICE = ("strict", "surrogateescape")

ASCII = {
    **dict(zip("▁▂▃▄▅▆▇█", "12345678", strict=True)),  # the heights of a sparkline
    **dict(zip("₀₁₂₃₄₅₆₇₈₉⁰¹²³⁴⁵⁶⁷⁸⁹", "01234567890123456789", strict=True)),
    **dict.fromkeys("─━–—−‐‑", "-"),
    "\N{NO-BREAK SPACE}": " ",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "…": "...",
    "│": "|",
    "·": "*",
    "±": "+/-",
    "×": "x",
    "÷": "/",
    "½": "1/2",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "≈": "~",
    "→": "->",
    "←": "<-",
    "‖": "||",
    "√": "sqrt",
    "∞": "inf",
    "∫": "integral",
    "∂": "d",
    "Σ": "Sum",
    "∑": "Sum",
    "Δ": "Delta",
    "θ": "theta",
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "σ": "sigma",
    "µ": "u",
    "μ": "u",
}


def replace_unencodable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the text to write in place of a character that the codec lacks, and the position to continue from.

    Bytes of a file name that could not be decoded are written unchanged.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return ASCII.get(character, "?"), error.start + 1


def find_plain_ascii(name: str) -> codecs.CodecInfo | None:
    """Return the codec called PLAIN_ASCII, or None for any other name. This function is passed to codecs.register."""
    if name != PLAIN_ASCII:
        return None
    return codecs.CodecInfo(
        codecs.ascii_encode,
        codecs.ascii_decode,
        incrementalencoder=ascii.IncrementalEncoder,
        incrementaldecoder=ascii.IncrementalDecoder,
        name=PLAIN_ASCII,
    )


def make_output_readable() -> None:
    """Let stdout and stderr replace characters that their encoding lacks, unless the user chose an error handler."""
    for stream in (sys.stdout, sys.stderr):
        # Other kinds of streams, such as those of notebooks, accept all characters and cannot be reconfigured.
        if isinstance(stream, TextIOWrapper) and (stream is sys.stderr or stream.errors in PYTHONS_CHOICE):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=PLAIN_ASCII if is_ascii else None, errors=READABLE)


codecs.register_error(READABLE, replace_unencodable)
codecs.register(find_plain_ascii)
