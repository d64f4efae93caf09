"""The film: what a frame shows, which frames there are, and that they can be read back."""

import numpy as np
import pytest
import torch
from handmade import NAN, make_run
from PIL import Image, ImageSequence
from torch import nn

from lca.errors import LCAError, UsageError
from lca.figures import encode
from lca.figures._animation import Film, Panel, animation, film_length, frames
from lca.figures.matrices import Matrix
from lca.figures.style import COLOURS, Look

SMALL = Film(width=320, height=240)
MODEL = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))  # K = 6 + 2 + 2 + 1
HELP, HURT, WHITE, GREY = ("#2a9d4e", "#d1495b", "#ffffff", "#d9d9d9")


def rgb(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


@pytest.fixture
def run(tmp_path):
    """Everything helps in even iterations and hurts in odd ones, all of the same size; iteration 3 is not finite."""
    lca = np.ones((11, 1)) * np.where(np.arange(8) % 2, 1.0, -1.0)
    lca[:, 3] = NAN
    lca[2, 4] = 0
    return make_run(
        tmp_path / "run.zarr", lca, model=MODEL, status=[1, 1, 2, 3, 1, 1, 1, 1], loss=np.linspace(2, 1, 9), block=4
    )


def colours_of(frame, panel):
    area = frame[panel.top : panel.top + len(panel.rows), panel.left : panel.left + len(panel.columns)]
    return {tuple(pixel) for pixel in area.reshape(-1, 3).tolist()}


def canvas_of(run, look=None, film=SMALL):
    """The panels of the film of a run, as the frames have them."""
    generator = frames(run, look or Look(), film)
    first = next(generator)
    return generator.gi_frame.f_locals["canvas"], [first, *generator]


def test_pixels_have_the_colours_of_the_parameters(run):
    canvas, drawn = canvas_of(run)
    assert len(drawn) == film_length(run, Look(), SMALL) == 8
    assert len(canvas.panels) == 4  # a kernel and a bias in each layer
    for t, frame in enumerate(drawn):
        assert frame.shape == (240, 320, 3)
        expected = GREY if t == 3 else HURT if t % 2 else HELP
        for panel in canvas.panels[1:]:
            assert colours_of(frame, panel) == {tuple(rgb(expected))}, t
    kernel = canvas.panels[0]
    assert colours_of(drawn[4], kernel) == {tuple(rgb(HELP)), tuple(rgb(WHITE))}
    height, width = len(kernel.rows), len(kernel.columns)
    assert drawn[4][kernel.top, kernel.left + width - 1].tolist() == rgb(WHITE)  # weight [0, 2] is at the right, on top
    assert drawn[4][kernel.top + height - 1, kernel.left].tolist() == rgb(HELP)


def test_a_dot_moves_along_the_loss(run):
    canvas, drawn = canvas_of(run)
    below = 240 - int(240 * 0.28)
    for t, frame in enumerate(drawn):
        x, y = canvas.dots[t]
        assert y > below
        assert frame[y, x].tolist() == rgb(HURT)
        assert canvas.background[y - 3, x].tolist() != rgb(HURT)
    assert (np.diff(canvas.dots[:, 0]) > 0).all()
    assert (np.diff(canvas.dots[:, 1]) >= 0).all()  # the loss falls, and pixels count downwards


def test_every_and_iterations_choose_the_frames(run):
    film = Film(width=320, height=240, every=3)
    assert film_length(run, Look(iterations=(1, 8)), film) == 3  # 1, 4 and 7
    canvas, drawn = canvas_of(run, Look(iterations=(1, 8)), film)
    shown = [colours_of(frame, canvas.panels[1]) for frame in drawn]
    assert shown == [{tuple(rgb(HURT))}, {tuple(rgb(HELP))}, {tuple(rgb(HURT))}]


def test_smoothing_is_the_mean_up_to_the_iteration(run):
    canvas, drawn = canvas_of(run, film=Film(width=320, height=240, smooth=2))
    shown = [colours_of(frame, canvas.panels[1]) for frame in drawn]
    helped, hurt, white = ({tuple(rgb(colour))} for colour in (HELP, HURT, WHITE))
    # 3 is missing, so that 3 shows 2 and 4 shows itself
    assert shown == [helped, white, white, helped, helped, white, white, white]
    assert hurt not in shown


def test_only_some_layers_and_other_colours(run):
    look = Look(layers="1", colours=COLOURS["blue-orange"])
    canvas, drawn = canvas_of(run, look)
    assert len(canvas.panels) == 2
    assert colours_of(drawn[0], canvas.panels[0]) == {tuple(rgb(look.colours.help))}


def test_what_is_larger_than_its_place_is_averaged():
    values = np.append(np.arange(12.0), NAN)
    places = np.arange(12).reshape(2, 6)
    places[1, 5] = -1
    panel = Panel.fit(Matrix("w", places), 0, 0, width=3, height=2)
    assert panel.step == (1, 2)
    np.testing.assert_allclose(panel.values(values), [[0.5, 2.5, 4.5], [6.5, 8.5, 10]])
    large = Panel.fit(Matrix("w", places), 0, 0, width=60, height=80)
    assert (large.step, len(large.rows), len(large.columns)) == ((1, 1), 60, 60)  # stretched to three times at most


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of pipes that imageio-ffmpeg left open
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_films_can_be_read_back(tmp_path, run, suffix):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs the extra `animation`")
    path = tmp_path / "new" / f"film{suffix}"
    assert animation(run, path, Look("a film"), Film(fps=8, width=320, height=240)) == 8
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    assert about["size"] == (320, 240)
    pictures = [np.frombuffer(frame, np.uint8).reshape(240, 320, 3) for frame in reader]
    assert len(pictures) == 8
    drawn = list(frames(run, Look("a film"), SMALL))
    for picture, frame in zip(pictures, drawn, strict=True):
        assert np.abs(picture.astype(int) - frame).mean() < 8
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_gif_needs_no_ffmpeg(tmp_path, run, monkeypatch):
    monkeypatch.setattr(encode, "find_spec", lambda name: None)
    assert animation(run, tmp_path / "film.gif", Look(), Film(fps=10, width=320, height=240)) == 8
    with Image.open(tmp_path / "film.gif") as film:
        pictures = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
        assert film.info["duration"] == 100
    assert len(pictures) == 8
    for picture, frame in zip(pictures, frames(run, Look(), SMALL), strict=True):
        assert np.abs(picture.astype(int) - frame).mean() < 3
    with pytest.raises(
        UsageError, match=r"\.mp4 needs a package of its own: pip install 'loss-change-allocation\[anim"
    ):
        animation(run, tmp_path / "film.mp4", Look(), SMALL)
    monkeypatch.setattr(encode, "PILLOW_LIMIT", 8 * 320 * 240 - 1)
    with pytest.raises(UsageError, match="a GIF of this length takes 614 kB of memory without ffmpeg"):
        animation(run, tmp_path / "film.gif", Look(), SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"fps": 0}, "fps is 0"), ({"every": 0}, "every is 0"), ({"width": 321}, "the film is 321×720; even numbers")],
)
def test_a_film_that_cannot_be_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Film(**options)


def test_where_the_loss_is_not_known_there_is_no_dot(tmp_path):
    loss = [2, NAN, 1.5, 1]
    run = make_run(tmp_path / "run.zarr", -np.ones((11, 3)), model=MODEL, loss=loss)
    _, drawn = canvas_of(run)
    red = [(np.abs(frame[180:].astype(int) - rgb(HURT)).sum(axis=2) == 0).any() for frame in drawn]
    assert red == [True, False, True]


def test_many_vectors_in_a_layer_stay_in_their_place(tmp_path):
    model = nn.Module()
    model.many = nn.ParameterDict({f"v{i}": nn.Parameter(torch.zeros(3)) for i in range(200)})
    run = make_run(tmp_path / "run.zarr", -np.ones((600, 2)), model=model)
    canvas, drawn = canvas_of(run)
    assert len(drawn) == 2
    assert all(panel.top + len(panel.rows) <= 240 for panel in canvas.panels)


@pytest.mark.parametrize("program", ["exit 1", "cat > /dev/null; echo no room >&2; exit 1"])
def test_what_ffmpeg_cannot_write_is_told(tmp_path, run, monkeypatch, program):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs the extra `animation`")
    (tmp_path / "ffmpeg").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(tmp_path / "ffmpeg"))
    with pytest.raises(LCAError, match=r"ffmpeg could not write film.mp4: (no room|it says nothing)"):
        animation(run, tmp_path / "film.mp4", Look(), SMALL)
    assert not list(tmp_path.glob("film*"))


def test_another_suffix_is_refused_and_nothing_is_left(tmp_path, run):
    with pytest.raises(UsageError, match=r"its suffix is \.avi; \.mp4, \.webm, \.gif are known"):
        animation(run, tmp_path / "film.avi", Look(), SMALL)
    before = sorted(tmp_path.iterdir())
    (tmp_path / "run.zarr/lca/train/lca/c/0/1").write_bytes(b"damaged")
    with pytest.raises(Exception, match="damaged"):
        animation(run, tmp_path / "film.gif", Look(), SMALL)
    assert sorted(tmp_path.iterdir()) == before
