"""Frames into a film: MP4, WebM and GIF through ffmpeg, GIF through Pillow where that is not installed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lca.errors import UsageError
from lca.text import size

Frame = NDArray[np.uint8]

# Codec, pixels and options. Each frame of a GIF has a palette of its own, so that none has to wait for the last.
FFMPEG: dict[str, tuple[str, str, list[str]]] = {
    ".mp4": ("libx264", "yuv420p", ["-preset", "veryfast", "-crf", "20", "-movflags", "+faststart"]),
    ".webm": ("libvpx-vp9", "yuv420p", ["-deadline", "realtime", "-cpu-used", "8", "-crf", "30", "-b:v", "0"]),
    ".gif": (
        "gif",
        "pal8",
        ["-filter_complex", "[0:v]split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"],
    ),
}
PILLOW_LIMIT = 10**9  # bytes: it keeps all frames until the end


@contextmanager
def encoder(path: Path, fps: int, width: int, height: int, n_frames: int) -> Iterator[Callable[[Frame], None]]:
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
def _ffmpeg(path: Path, fps: int, width: int, height: int) -> Iterator[Callable[[Frame], None]]:
    import imageio_ffmpeg

    codec, pixels, options = FFMPEG[path.suffix.lower()]
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (width, height),
        fps=fps,
        codec=codec,
        pix_fmt_out=pixels,
        quality=None,
        macro_block_size=1,
        output_params=options,
        ffmpeg_log_level="error",
    )
    writer.send(None)
    try:
        yield lambda frame: writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()


@contextmanager
def _pillow(path: Path, fps: int, n_bytes: int) -> Iterator[Callable[[Frame], None]]:
    if n_bytes > PILLOW_LIMIT:
        raise UsageError(
            f"a GIF of this length takes {size(n_bytes)} of memory without ffmpeg. Show fewer iterations (--every, "
            "--iterations), make it smaller, or: pip install 'loss-change-allocation[animation]'."
        )
    frames: list[Image.Image] = []
    yield lambda frame: frames.append(Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=1000 / fps, loop=0)
