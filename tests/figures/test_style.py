"""Looks, colors and file formats."""

import pytest
from artists import HELP, HURT, LOOK
from matplotlib.colors import to_hex
from matplotlib.image import imread

from lca import figures
from lca.analysis import helping
from lca.errors import UsageError
from lca.figures.style import COLORS, Look


def test_other_colors_can_be_chosen():
    look = Look(colors="blue-orange")
    assert look.palette.by_sign([-1, 1]) == [look.palette.help, look.palette.hurt]
    assert {look.palette.help, look.palette.hurt}.isdisjoint({HELP, HURT})
    for each in COLORS.values():
        assert to_hex(each.map(0.0)) == each.help
        assert to_hex(each.map(1.0)) == each.hurt
        assert to_hex(each.map(127)) == "#ffffff"


def test_paper_style_fits_a_column(run, tmp_path):
    figure = figures.helping(helping(run), Look(style="paper"))
    for _ in range(2):
        figures.save(figure, tmp_path / "figure.png", dpi=100)
        assert imread(tmp_path / "figure.png").shape[:2] == (242, 396)  # 0.55 of 4.4 × 7.2 inches


def test_style_does_not_change_global_settings(run):
    from matplotlib import rcParams

    before = rcParams["font.size"]
    figure = figures.helping(helping(run), Look(style="paper"))
    assert figure.axes[0].yaxis.label.get_size() == 7
    assert rcParams["font.size"] == before
    with pytest.raises(UsageError, match="style: expected one of paper, screen, found 'poster'"):
        Look(style="poster")


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
@pytest.mark.parametrize("style", ["paper", "screen"])
def test_suffix_selects_the_format(tmp_path, run, suffix, magic, style):
    path = tmp_path / "new" / f"figure{suffix}"
    figures.save(figures.helping(helping(run), Look(style=style)), path)
    assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize("name", ["figure.bmp", "figure"])
def test_unsupported_suffix_is_refused(tmp_path, run, name):
    with pytest.raises(UsageError, match=r"suffix of 'figure.*': expected \.png, \.svg or \.pdf, found (\.bmp|none)"):
        figures.save(figures.helping(helping(run), LOOK), tmp_path / name)
