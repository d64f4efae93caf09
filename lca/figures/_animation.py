"""The training as a film: the LCA of every parameter, iteration by iteration, with the loss below.

[arXiv 1909.01440, section 2.2 and figure 2]
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lca import analysis
from lca.analysis.question import RunLike
from lca.config import configuration, option
from lca.errors import UsageError
from lca.figures.asking import open_one
from lca.figures.axes import CLIP, Floats
from lca.figures.canvas import Canvas
from lca.figures.encode import Frame, open_encoder
from lca.figures.style import DEFAULT, Look, use_style
from lca.store.allocation import Allocation
from lca.store.chunks import read_part, verify_remedy
from lca.store.run import Run


@configuration
class Film:
    """Speed, smoothing and size of a film.

    Attributes:
        fps: Frames per second.
        every: Interval between the iterations shown. With 4, only every fourth iteration gets a frame.
        smooth: Number of iterations to average over. Each frame shows the mean LCA of its own iteration and the
            iterations before it.
        width: Width in pixels, an even number of at least 160.
        height: Height in pixels, an even number of at least 120.

    Raises:
        UsageError: A number is too small, or a size is odd.

    Example:
        >>> lca.figures.Film(fps=12, every=4, smooth=4)
    """

    fps: int = option(default=24, metavar="N", help="Frames per second.")
    every: int = option(default=1, metavar="N", help="Show every Nth iteration.")
    smooth: int = option(default=1, metavar="N", help="In each frame, show the mean LCA of the last N iterations.")
    width: int = option(default=1280, metavar="PIXELS", help="Width in pixels, an even number.")
    height: int = option(default=720, metavar="PIXELS", help="Height in pixels, an even number.")

    def __post_init__(self) -> None:
        for name in ("fps", "every", "smooth"):
            if getattr(self, name) < 1:
                raise UsageError(name, expected="at least 1", found=str(getattr(self, name)))
        if self.width < 160 or self.height < 120 or self.width % 2 or self.height % 2:
            found = f"{self.width}×{self.height}"
            raise UsageError("size of the film", expected="even numbers, at least 160×120", found=found)


FILM = Film()


def animation(run: RunLike, path: Path | str, look: Look = DEFAULT, film: Film = FILM, *, name: str = "train") -> int:
    """Write a film of the training: the LCA of every parameter, each tensor as a matrix, with the loss below.

    Parameters that help (LCA below 0) and parameters that hurt (above 0) have different colors. White is 0, and gray
    marks iterations that are not allocated or not finite. Only one block of iterations is held in memory at a time.

    Args:
        run: A run, as a path or a ``Run``.
        path: Path of the film. The suffix selects the format: .mp4, .webm or .gif.
        look: Title, colors, layers and iterations to show. Its style is ignored.
        film: Speed, smoothing and size of the film.
        name: Name of the allocation.

    Returns:
        The number of frames.

    Raises:
        UsageError: ``run`` is not a single run, the suffix is not supported, or the package that encodes this format is
            not installed.
        LCAError: Writing the film failed.

    Example:
        >>> lca.figures.animation("run.zarr", "training.mp4", film=lca.figures.Film(every=4))
    """
    opened, look = open_one(run, look, name)
    with open_encoder(Path(path), film.fps, film.width, film.height, count_frames(opened, look, film)) as write:
        for frame in draw_frames(opened, look, film, name):
            write(frame)
    return count_frames(opened, look, film)


def count_frames(run: Run, look: Look, film: Film) -> int:
    """Return the number of frames of the film."""
    return len(_choose_frames(run, look, film))


def draw_frames(run: Run, look: Look, film: Film, name: str = "train") -> Iterator[Frame]:
    """Yield the frames, arrays of shape (height, width, 3). Iterations without finite LCA are gray."""
    allocation, table = run.allocation(name), run.parameters
    sizes = analysis.tails(run, name=name).both
    shown = _choose_frames(run, look, film)
    with use_style("screen"):
        canvas = Canvas(
            table,
            allocation.read("loss"),
            unit=allocation.attributes["unit"],
            layers=[table.layers[i] for i in look.choose_layers(table.layers)],
            limit=sizes.percentile(CLIP) if sizes.n else 1.0,
            shown=shown,
            look=look,
            size=(film.width, film.height),
        )
    for t, lca in _smooth(allocation, shown, film.smooth):
        yield canvas.draw(t, lca)


def _choose_frames(run: Run, look: Look, film: Film) -> range:
    """Return the iterations to draw, one per frame."""
    span = look.choose_iterations(run.n_iterations)
    return range(span.start, span.stop, film.every)


def _smooth(allocation: Allocation, shown: range, n: int) -> Iterator[tuple[int, Floats]]:
    """Yield each shown iteration t with the mean LCA of iterations t − n + 1 to t, an array of shape (K,).

    Iterations whose LCA is NaN are left out of the mean. If all of them are NaN, so is the mean.
    """
    window: deque[NDArray[np.float32]] = deque(maxlen=n)
    first = max(shown.start - n + 1, 0)
    for span in allocation.blocks_of_run:
        begin, end = max(span.start, first), min(span.stop, shown.stop)
        if begin >= end:
            continue
        where = slice(None), slice(begin, end)
        lca = read_part(allocation.lca, where, f"{allocation.path}/lca", verify_remedy(allocation.run_path))
        rows = np.ascontiguousarray(lca.T)
        for t, row in zip(range(begin, end), rows, strict=True):
            window.append(row)
            if t in shown:
                known = [each for each in window if not np.isnan(each[0])]
                yield t, np.mean(known, axis=0, dtype=np.float64) if known else np.full(len(row), np.nan)
