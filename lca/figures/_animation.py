"""Training as a film: the LCA of every parameter, iteration by iteration, with the loss beneath.

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
from lca.store.chunks import read_part
from lca.store.run import Run, verify_remedy


@configuration
class Film:
    """How a film is made."""

    fps: int = option(default=24, metavar="N", help="Frames per second.")
    every: int = option(default=1, metavar="N", help="Show every Nth iteration.")
    smooth: int = option(default=1, metavar="N", help="Show the mean LCA of N iterations, up to the one shown.")
    width: int = option(default=1280, metavar="PIXELS", help="Width, an even number of pixels.")
    height: int = option(default=720, metavar="PIXELS", help="Height, an even number of pixels.")

    def __post_init__(self) -> None:
        for name in ("fps", "every", "smooth"):
            if getattr(self, name) < 1:
                raise UsageError(name, expected="at least 1", found=str(getattr(self, name)))
        if self.width < 160 or self.height < 120 or self.width % 2 or self.height % 2:
            found = f"{self.width}×{self.height}"
            raise UsageError("size of the film", expected="even numbers from 160×120 on", found=found)


FILM = Film()


def animation(run: RunLike, path: Path | str, look: Look = DEFAULT, film: Film = FILM, *, name: str = "train") -> int:
    """Write the training as a film: the LCA of every parameter, each layer as a matrix, with the loss beneath.

    Memory is bounded by a block of iterations, however long the run is.

    Args:
        run: A path or a Run.
        path: Where to write the film; the suffix decides the format: .mp4, .webm or .gif.
        look: Title and colours, and the layers and iterations that are shown; its style has no effect.
        film: Speed, smoothing and size.
        name: Name of the allocation.

    Returns:
        The number of frames.

    Raises:
        UsageError: The suffix is another one, or the package that writes it is not installed.
        LCAError: The film could not be written.

    Example:
        >>> lca.figures.animation("run.zarr", "training.mp4", film=lca.figures.Film(every=4))
    """
    opened, look = open_one(run, look, name)
    with open_encoder(Path(path), film.fps, film.width, film.height, count_frames(opened, look, film)) as write:
        for frame in draw_frames(opened, look, film, name):
            write(frame)
    return count_frames(opened, look, film)


def count_frames(run: Run, look: Look, film: Film) -> int:
    """How many frames the film has."""
    return len(_choose_frames(run, look, film))


def draw_frames(run: Run, look: Look, film: Film, name: str = "train") -> Iterator[Frame]:
    """The frames, (height, width, 3) each; an iteration that is not allocated or not finite is grey."""
    allocation, table = run.allocation(name), run.parameters
    sizes = analysis.tails(run, name=name, unconverged=True).both
    shown = _choose_frames(run, look, film)
    with use_style("screen"):
        canvas = Canvas(
            table,
            allocation.read("loss"),
            layers=[table.layers[i] for i in look.choose_layers(table.layers)],
            limit=sizes.percentile(CLIP) if sizes.n else 1.0,
            shown=shown,
            look=look,
            size=(film.width, film.height),
        )
    for t, lca in _smooth(allocation, shown, film.smooth):
        yield canvas.draw(t, lca)


def _choose_frames(run: Run, look: Look, film: Film) -> range:
    """The iterations that have a frame."""
    span = look.choose_iterations(run.n_iterations)
    return range(span.start, span.stop, film.every)


def _smooth(allocation: Allocation, shown: range, n: int) -> Iterator[tuple[int, Floats]]:
    """(t, the mean A (K,) of iterations t − n + 1 … t), read block by block; NaN if none of them is known."""
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
