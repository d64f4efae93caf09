"""Films can be read back, and a failure leaves no file behind."""

import errno

import numpy as np
import pytest
from PIL import Image, ImageSequence

from lca.errors import LCAError, UsageError
from lca.figures import encode
from lca.figures._animation import Film, animation, draw_frames
from lca.figures.style import Look

SMALL = Film(width=320, height=240)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg leaves pipes open
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_films_can_be_read_back(tmp_path, film_run, suffix):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs the extra `animation`")
    path = tmp_path / "new" / f"film{suffix}"
    assert animation(film_run, path, Look("a film"), Film(fps=8, width=320, height=240)) == 8
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    assert about["size"] == (320, 240)
    pictures = [np.frombuffer(frame, np.uint8).reshape(240, 320, 3) for frame in reader]
    assert len(pictures) == 8
    drawn = list(draw_frames(film_run, Look("a film"), SMALL))
    for picture, frame in zip(pictures, drawn, strict=True):
        assert np.abs(picture.astype(int) - frame).mean() < 8
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_gif_does_not_need_ffmpeg(tmp_path, film_run, monkeypatch):
    monkeypatch.setattr(encode, "find_spec", lambda name: None)
    assert animation(film_run, tmp_path / "film.gif", Look(), Film(fps=10, width=320, height=240)) == 8
    with Image.open(tmp_path / "film.gif") as film:
        pictures = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
        assert film.info["duration"] == 100
    assert len(pictures) == 8
    for picture, frame in zip(pictures, draw_frames(film_run, Look(), SMALL), strict=True):
        assert np.abs(picture.astype(int) - frame).mean() < 3
    with pytest.raises(
        UsageError, match=r"which writes \.mp4 films, is not installed. .*pip install 'loss-change-allocation\[anim"
    ):
        animation(film_run, tmp_path / "film.mp4", Look(), SMALL)
    monkeypatch.setattr(encode, "PILLOW_LIMIT", 8 * 320 * 240 - 1)
    with pytest.raises(
        UsageError,
        match="needs 614 kB of memory without ffmpeg. Show fewer iterations .every, iterations",
    ):
        animation(film_run, tmp_path / "film.gif", Look(), SMALL)


@pytest.mark.parametrize("program", ["exit 1", "cat > /dev/null; echo no room >&2; exit 1"])
def test_failure_of_ffmpeg_is_reported(tmp_path, film_run, monkeypatch, program):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs the extra `animation`")
    (tmp_path / "ffmpeg").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(tmp_path / "ffmpeg"))
    with pytest.raises(LCAError, match=r"ffmpeg could not write film.mp4: (no room|it gave no reason)"):
        animation(film_run, tmp_path / "film.mp4", Look(), SMALL)
    assert not list(tmp_path.glob("film*"))


class WindowsPipe:
    """A pipe to a process that has ended, as on Windows."""

    def __init__(self, pipe):
        self.close = pipe.close

    def write(self, data):
        raise OSError(errno.EINVAL, "Invalid argument")


def test_failure_of_ffmpeg_is_reported_on_windows(tmp_path, film_run, monkeypatch):
    pytest.importorskip("imageio_ffmpeg", reason="needs the extra `animation`")

    class Process(encode.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(["sh", "-c", "echo no room >&2; exit 1"], **options)
            self.stdin = WindowsPipe(self.stdin)

    monkeypatch.setattr(encode, "Popen", Process)
    with pytest.raises(LCAError, match="ffmpeg could not write film.mp4: no room"):
        animation(film_run, tmp_path / "film.mp4", Look(), SMALL)


def test_failure_leaves_no_file(tmp_path, film_run):
    with pytest.raises(UsageError, match=r"suffix of 'film.avi': expected \.mp4, \.webm or \.gif, found \.avi"):
        animation(film_run, tmp_path / "film.avi", Look(), SMALL)
    before = sorted(tmp_path.iterdir())
    (tmp_path / "run.zarr/lca/train/lca/c/0/1").write_bytes(b"damaged")
    with pytest.raises(Exception, match="damaged"):
        animation(film_run, tmp_path / "film.gif", Look(), SMALL)
    assert sorted(tmp_path.iterdir()) == before
