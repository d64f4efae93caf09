"""Functions that read the contents of a figure from its artists: heights, colors, labels."""

from matplotlib.colors import to_hex

from lca.figures.style import COLORS, Look

LOOK = Look("a title")
HELP, HURT = COLORS["green-red"].help, COLORS["green-red"].hurt


def read_heights(axes):
    return [bar.get_height() for bar in axes.patches]


def read_colors(axes):
    return [to_hex(bar.get_facecolor()) for bar in axes.patches]


def read_labels(texts):
    return [text.get_text() for text in texts]


def read_whiskers(axes):
    """Return the lengths of the error bars."""
    (bars,) = (container.lines[2][0] for container in axes.containers if hasattr(container, "has_yerr"))
    return [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
