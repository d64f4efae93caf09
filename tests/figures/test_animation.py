"""The frames of a film: their number and their contents."""

import numpy as np
import pytest
from artists import HELP, HURT
from handmade import NAN, make_run
from torch import nn

from lca.errors import UsageError
from lca.figures._animation import Film, count_frames, draw_frames
from lca.figures.style import Look

SMALL = Film(width=320, height=240)
WHITE, GRAY = ("#ffffff", "#d9d9d9")


def rgb(color):
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def colors_of(frame, panel):
    area = frame[panel.top : panel.top + len(panel.rows), panel.left : panel.left + len(panel.columns)]
    return {tuple(pixel) for pixel in area.reshape(-1, 3).tolist()}


def canvas_of(run, look=None, film=SMALL):
    """Return the canvas on which the frames of a film are drawn, and the frames."""
    generator = draw_frames(run, look or Look(), film)
    first = next(generator)
    return generator.gi_frame.f_locals["canvas"], [first, *generator]


def test_pixels_show_the_sign_of_each_parameter(film_run):
    canvas, drawn = canvas_of(film_run)
    assert len(drawn) == count_frames(film_run, Look(), SMALL) == 8
    assert len(canvas.panels) == 4  # a kernel and a bias in each layer
    for t, frame in enumerate(drawn):
        assert frame.shape == (240, 320, 3)
        expected = GRAY if t == 3 else HURT if t % 2 else HELP
        for panel in canvas.panels[1:]:
            assert colors_of(frame, panel) == {tuple(rgb(expected))}, t
    kernel = canvas.panels[0]
    assert colors_of(drawn[4], kernel) == {tuple(rgb(HELP)), tuple(rgb(WHITE))}
    height, width = len(kernel.rows), len(kernel.columns)
    assert drawn[4][kernel.top, kernel.left + width - 1].tolist() == rgb(
        WHITE
    )  # weight [0, 2] is in the upper right corner
    assert drawn[4][kernel.top + height - 1, kernel.left].tolist() == rgb(HELP)


def test_dot_moves_along_the_loss(film_run):
    canvas, drawn = canvas_of(film_run)
    below = 240 - int(240 * 0.28)
    for t, frame in enumerate(drawn):
        x, y = canvas.dots[t]
        assert y > below
        assert frame[y, x].tolist() == rgb(HURT)
        assert canvas.background[y - 3, x].tolist() != rgb(HURT)
    assert (np.diff(canvas.dots[:, 0]) > 0).all()
    assert (np.diff(canvas.dots[:, 1]) >= 0).all()  # the loss falls, and pixels count downwards


def test_every_and_iterations_select_the_frames(film_run):
    film = Film(width=320, height=240, every=3)
    assert count_frames(film_run, Look(iterations=(1, 8)), film) == 3  # 1, 4 and 7
    canvas, drawn = canvas_of(film_run, Look(iterations=(1, 8)), film)
    shown = [colors_of(frame, canvas.panels[1]) for frame in drawn]
    assert shown == [{tuple(rgb(HURT))}, {tuple(rgb(HELP))}, {tuple(rgb(HURT))}]


def test_smoothing_averages_the_last_iterations(film_run):
    canvas, drawn = canvas_of(film_run, film=Film(width=320, height=240, smooth=2))
    shown = [colors_of(frame, canvas.panels[1]) for frame in drawn]
    helped, hurt, white = ({tuple(rgb(color))} for color in (HELP, HURT, WHITE))
    # Iteration 3 is missing, so its frame shows iteration 2, and the next frame shows only iteration 4.
    assert shown == [helped, white, white, helped, helped, white, white, white]
    assert hurt not in shown


def test_look_selects_layers_and_colors(film_run):
    look = Look(layers="1", colors="blue-orange")
    canvas, drawn = canvas_of(film_run, look)
    assert len(canvas.panels) == 2
    assert colors_of(drawn[0], canvas.panels[0]) == {tuple(rgb(look.palette.help))}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0}, "fps: expected at least 1, found 0"),
        ({"every": 0}, "every: expected at least 1, found 0"),
        ({"width": 321}, "even numbers, at least 160×120, found 321×720"),
    ],
)
def test_invalid_film_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Film(**options)


def test_unknown_loss_has_no_dot(tmp_path):
    loss = [2, NAN, 1.5, 1]
    run = make_run(
        tmp_path / "run.zarr", -np.ones((11, 3)), model=nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)), loss=loss
    )
    canvas, drawn = canvas_of(run)
    has_dot = [(frame[180:] != canvas.background[180:]).any() for frame in drawn]
    assert has_dot == [True, False, True]
