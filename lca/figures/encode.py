"""Encode frames as a film: MP4, WebM and GIF with ffmpeg, or GIF with Pillow if ffmpeg is not installed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lca.errors import Argument, LCAError, UsageError
from lca.figures.style import require_suffix
from lca.store.local import whole_file
from lca.store.schema import PARTIAL
from lca.text import size

Frame = NDArray[np.uint8]
Write = Callable[[Frame], object]

# Each frame of a GIF gets its own palette, so that frames can be written before the last one is known.
X264 = "-c:v libx264 -preset veryfast -crf 20 -pix_fmt yuv420p -movflags +faststart"
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -crf 30 -b:v 0 -pix_fmt yuv420p"
PALETTES = "[0:v]split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"
FFMPEG = {".mp4": X264.split(" "), ".webm": VP9.split(" "), ".gif": ["-filter_complex", PALETTES]}
PILLOW_LIMIT = 10**9  # bytes; Pillow keeps all frames in memory until the end
INSTALL = "pip install 'loss-change-allocation[animation]'"


@contextmanager
def open_encoder(path: Path, fps: int, width: int, height: int, n_frames: int) -> Iterator[Write]:
    """Yield a function that writes one frame, an array of shape (height, width, 3).

    The file appears under its name only when the context ends without an exception.
    """
    require_suffix(path, tuple(FFMPEG))
    suffix = path.suffix.lower()
    has_ffmpeg = find_spec("imageio_ffmpeg") is not None
    if not has_ffmpeg and suffix != ".gif":
        raise UsageError(
            f"imageio-ffmpeg, which writes {suffix} films, is not installed",
            remedy=f"Install it with: {INSTALL}, or write a .gif, which does not need it.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        n_bytes = width * height * n_frames
        film = _use_ffmpeg(partial, fps, width, height) if has_ffmpeg else _use_pillow(partial, fps, n_bytes)
        with film as write:
            yield write


@contextmanager
def _use_ffmpeg(path: Path, fps: int, width: int, height: int) -> Iterator[Write]:
    """Pipe the frames to ffmpeg, and raise LCAError with its error message if it fails at any point."""
    from imageio_ffmpeg import get_ffmpeg_exe

    frames = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    command = [get_ffmpeg_exe(), "-y", "-loglevel", "error", *frames, *FFMPEG[path.suffix.lower()], str(path)]
    with TemporaryFile() as messages, Popen(command, stdin=PIPE, stdout=DEVNULL, stderr=messages) as process:
        assert process.stdin is not None
        stdin = process.stdin

        def write(frame: Frame) -> None:
            try:
                stdin.write(frame.tobytes())
                stdin.flush()
            except OSError as error:  # on Windows, EINVAL instead of EPIPE
                raise BrokenPipeError from error

        try:
            yield write
            stdin.close()
        except BrokenPipeError:  # ffmpeg has exited; its messages and exit status are read below
            pass
        except BaseException:
            process.kill()
            raise
        if process.wait():
            messages.seek(0)
            reason = messages.read().decode(errors="replace").strip() or "it gave no reason"
            raise LCAError(f"ffmpeg could not write {path.name.replace(PARTIAL, '')}: {reason}")


@contextmanager
def _use_pillow(path: Path, fps: int, n_bytes: int) -> Iterator[Write]:
    if n_bytes > PILLOW_LIMIT:
        raise UsageError(
            f"a GIF of this length needs {size(n_bytes)} of memory without ffmpeg",
            remedy=(
                "Show fewer iterations (",
                Argument("every"),
                ", ",
                Argument("iterations"),
                f"), reduce the size of the film, or install ffmpeg with: {INSTALL}.",
            ),
        )
    frames: list[Image.Image] = []
    yield lambda frame: frames.append(Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=1000 / fps, loop=0)
