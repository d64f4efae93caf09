"""Frames into a film: MP4, WebM and GIF through ffmpeg, GIF through Pillow where that is not installed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lca.errors import LCAError, UsageError
from lca.text import size

Frame = NDArray[np.uint8]

# Each frame of a GIF has a palette of its own, so that none has to wait for the last.
X264 = "-c:v libx264 -preset veryfast -crf 20 -pix_fmt yuv420p -movflags +faststart"
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -crf 30 -b:v 0 -pix_fmt yuv420p"
PALETTES = "[0:v]split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"
FFMPEG = {".mp4": X264.split(" "), ".webm": VP9.split(" "), ".gif": ["-filter_complex", PALETTES]}
PILLOW_LIMIT = 10**9  # bytes: it keeps all frames until the end


@contextmanager
def encoder(path: Path, fps: int, width: int, height: int, n_frames: int) -> Iterator[Callable[[Frame], object]]:
    """What takes the frames (height, width, 3), one by one. A film that does not come to its end is removed."""
    suffix = path.suffix.lower()
    if suffix not in FFMPEG:
        raise UsageError(
            f"cannot write {path.name!r}: its suffix is {suffix or 'missing'}; {', '.join(FFMPEG)} are known."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    by_ffmpeg = find_spec("imageio_ffmpeg") is not None
    if not by_ffmpeg and suffix != ".gif":
        raise UsageError(
            f"{suffix} needs a package of its own: pip install 'loss-change-allocation[animation]'. "
            "A .gif can be written without."
        )
    making = path.with_name(f"{path.stem}.partial{suffix}")
    try:
        with (
            _ffmpeg(making, fps, width, height)
            if by_ffmpeg
            else _pillow(making, fps, width * height * n_frames) as write
        ):
            yield write
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)


@contextmanager
def _ffmpeg(path: Path, fps: int, width: int, height: int) -> Iterator[Callable[[Frame], object]]:
    """Raises LCAError with ffmpeg's own words where it fails, also at the end, as on a full disk."""
    from imageio_ffmpeg import get_ffmpeg_exe

    frames = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    command = [get_ffmpeg_exe(), "-y", "-loglevel", "error", *frames, *FFMPEG[path.suffix.lower()], str(path)]
    with TemporaryFile() as words, Popen(command, stdin=PIPE, stdout=DEVNULL, stderr=words) as process:
        assert process.stdin is not None
        try:
            stdin = process.stdin
            yield lambda frame: stdin.write(frame.tobytes())
            stdin.close()
        except BrokenPipeError:  # it has ended already, and says why
            pass
        except BaseException:
            process.kill()
            raise
        if process.wait():
            words.seek(0)
            told = words.read().decode(errors="replace").strip() or "it says nothing"
            raise LCAError(f"ffmpeg could not write {path.name.replace('.partial', '')}: {told}")


@contextmanager
def _pillow(path: Path, fps: int, n_bytes: int) -> Iterator[Callable[[Frame], object]]:
    if n_bytes > PILLOW_LIMIT:
        raise UsageError(
            f"a GIF of this length takes {size(n_bytes)} of memory without ffmpeg. Show fewer iterations (--every, "
            "--iterations), make it smaller, or: pip install 'loss-change-allocation[animation]'."
        )
    frames: list[Image.Image] = []
    yield lambda frame: frames.append(Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=1000 / fps, loop=0)
