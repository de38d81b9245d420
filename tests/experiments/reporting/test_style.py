"""What is drawn and written does not depend on the last digits, which another processor computes otherwise."""

from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fastls.experiments.reporting import style, tables

X = np.linspace(0.1, 3, 40)


def draw(noise: float, scale: str):
    """Every kind of artist that the project draws, its numbers off by a share of `noise`."""
    factor = 1 + noise * np.cos(np.arange(len(X)))
    y = np.exp(-5 * X) * factor
    figure, panel = style.new_figure(1)
    panel.plot(X * factor, y, marker="o")
    panel.fill_between(X, y, 2 * y * factor)
    panel.scatter(X * factor, y, s=9)
    panel.vlines(X, y * factor, 2 * y)
    panel.fill(X[:3] * factor[:3], y[[0, 5, 1]] * factor[:3])
    panel.annotate("here", (X[3] * factor[3], y[3]), (X[5], y[5] * factor[5]), arrowprops={"arrowstyle": "->"})
    panel.axhline(y[3], color="0.5")
    panel.set_yscale(scale)
    if scale == "linear":
        panel.contour(np.add.outer(X * factor, X)[:5, :5])
        panel.imshow((np.outer(X, X) * factor)[:4, :4])
    return figure


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_bytes_of_a_figure_do_not_depend_on_the_last_digits(tmp_path, scale):
    contents = []
    for noise in (0.0, 1e-13):
        paths = style.save_figure(draw(noise, scale), "one", tmp_path / str(noise))
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    other = style.save_figure(draw(1e-3, scale), "one", tmp_path / "other")
    assert [path.read_bytes() for path in other] != contents[0]
    plt.close("all")


def test_the_rounding_moves_nothing_that_an_eye_could_see():
    for scale in ("linear", "log"):
        figure = draw(0.0, scale)
        (panel,) = figure.axes
        before = [line.get_ydata().copy() for line in panel.lines]
        span = np.ptp(panel.get_ylim())
        style.round_drawn(panel)
        for old, line in zip(before, panel.lines, strict=True):
            far = np.abs(old - line.get_ydata())
            assert (far <= (1e-5 * np.abs(old) if scale == "log" else 1e-5 * span)).all()
    plt.close("all")


def test_what_is_not_finite_or_not_a_float_stays():
    np.testing.assert_array_equal(style.round_values([np.nan, np.inf, 0.0], None), [np.nan, np.inf, 0.0])
    assert style.round_values([1, 2], None).dtype.kind == "i"


def test_tables_hold_six_digits(tmp_path):
    table = pd.DataFrame({"value": [1 / 3, 1e-12 / 3], "n": [10_000_000, 1]})
    tables.write_table(table, "one", tmp_path, "One", [])
    assert (tmp_path / "one.csv").read_text() == "value,n\n0.333333,10000000\n3.33333e-13,1\n"


def test_a_page_shows_the_picture_and_its_caption_as_text(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(style, "display", shown.append)
    figure, axes = style.new_figure(2)
    axes[0].plot([0, 1], color=(0.9, 0.1, 0.2))  # few of its points would be lost in a palette by frequency
    style.sign(figure, "where from\nand n = 3")
    style.show_figure(figure, "one", tmp_path)
    picture, caption = shown
    whole, page = np.asarray(Image.open(tmp_path / "one.png").convert("RGB")), Image.open(BytesIO(picture.data))
    assert caption.data == "where from  \nand n = 3" and not plt.fignum_exists(figure.number)
    below = whole[page.height :]
    assert page.width == whole.shape[1] and 0.05 < len(below) / len(whole) < 0.2
    assert (below.min() < 150) and (below[:3] == below[0, 0]).all()  # the print is below the cut, not on it
    assert np.array_equal(np.asarray(page.convert("RGB")), whole[: page.height])
    assert np.abs(whole.astype(int) - [230, 26, 51]).max(axis=2).min() <= 8 and (whole[0, 0] == 255).all()


def test_a_logarithmic_axis_says_so_once(tmp_path):
    figure, (left, right) = style.new_figure(2)
    left.set(xscale="log", yscale="log", xlabel="step", title="loss")
    right.set(yscale="log", title="passes through the encoder", xlabel="epoch")
    for _ in range(2):
        style.save_figure(figure, "one", tmp_path)
    assert (left.get_xlabel(), left.get_title()) == ("step (log scale)", "loss (log scale)")
    assert (right.get_xlabel(), right.get_title()) == ("epoch", "passes through the encoder\n(log scale)")
    figure, (left, right) = style.new_figure(2)
    left.set(yscale="log", ylabel="gap", title="one set")
    right.set(yscale="log", title="another")
    style.save_figure(figure, "two", tmp_path)
    assert [panel.get_title() for panel in (left, right)] == ["one set", "another"]
    assert left.get_ylabel() == "gap (log scale)"
    plt.close("all")


def test_a_pale_band_keeps_its_colour_beside_thousands_of_others():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)
    pixels[:100, :100], pixels[100:, 100:] = (217, 240, 234), (217, 234, 241)  # pale green, pale blue
    reduced = np.asarray(style.reduce_colours(Image.fromarray(pixels)).convert("RGB"))
    assert len(np.unique(reduced.reshape(-1, 3), axis=0)) <= 256
    assert (reduced[:100, :100] == (217, 240, 234)).all() and (reduced[100:, 100:] == (217, 234, 241)).all()
    assert np.abs(reduced.astype(int) - pixels).max() < 64
