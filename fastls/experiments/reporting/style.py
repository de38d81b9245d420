"""One look for all figures: a size, a font, and a colour, line and marker for every method, legible in grey."""

import textwrap
from io import BytesIO
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import Image, Markdown, display
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from PIL import Image as Picture
from scipy.spatial import KDTree

from fastls.experiments.reporting.condense import show
from fastls.paths import place, write_atomically

WIDTH = 10.0  # inches, of a figure of four panels
DIGITS = 6  # of what is drawn
LINE = 150  # characters of the smallest print that fit into the width
LONG_TITLE = 20  # characters; a longer title leaves no room for "(log scale)" on its line
CAPTION = "caption"  # marks the text that `sign` prints
COLOURS = sns.color_palette("colorblind")
# variant -> colour, line, marker
METHOD_STYLES = {
    "EqualWeight": (COLOURS[7], (0, (1, 1)), "x"),
    "SGD": (COLOURS[0], "--", "o"),
    "BLS": (COLOURS[1], "-.", "s"),
    "MGDA-UB": (COLOURS[4], (0, (3, 1, 1, 1)), "^"),
    "FBLS": (COLOURS[2], "-", "D"),
    "SGD, smallest": (COLOURS[9], "--", "."),
    "FBLS, other β": ("#00523b", "-", "P"),
    "FBLS+gain": ("black", (0, (4, 1, 1, 1)), "p"),
    "AdamFBLS": (COLOURS[2], "-", "p"),
    "AdamW": (COLOURS[0], (0, (4, 2)), "<"),
    "NAdam": (COLOURS[1], (0, (6, 1, 1, 1)), "X"),
    "Prodigy": (COLOURS[3], (0, (2, 1)), "P"),
    "ScheduleFree": (COLOURS[4], (0, (1, 1)), ">"),
    "Newton": (COLOURS[9], "-", "<"),
    "latent Newton": (COLOURS[5], "--", ">"),
    "FBLS+decay": (COLOURS[3], (0, (5, 1)), "v"),
}
CONSTANT_ANSWER = {"color": "0.5", "linestyle": (0, (1, 3))}  # a horizontal line that belongs to no method


def use_style() -> None:
    """Set matplotlib up for every figure of the project."""
    sns.set_theme(context="paper", style="ticks", palette="colorblind")
    matplotlib.rcParams |= {
        "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters everywhere
        "font.size": 9,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "pdf.fonttype": 42,
        "savefig.dpi": 200,
        "figure.dpi": 80,
        "figure.constrained_layout.use": True,
    }


def line_style(name: str) -> dict:
    """Keyword arguments of `Axes.plot` for a variant."""
    colour, line, marker = METHOD_STYLES[name]
    return {"color": colour, "linestyle": line, "marker": marker, "markersize": 4, "linewidth": 1.5}


def spread_markers(points: int) -> dict:
    """Keyword argument of `Axes.plot`: about six markers along a line of `points` points."""
    return {"markevery": max(1, points // 6)}


def draw_with_band(panel, middle, low, high, style: dict) -> None:
    """A line over the index of `middle` (a series), and a pale band of its colour from `low` to `high`."""
    panel.plot(middle.index, middle, **style)
    panel.fill_between(middle.index, low, high, color=style["color"], alpha=0.15, linewidth=0)


def new_figure(columns: int, height: float = 2.8, rows: int = 1, **options):
    """Panels at the project's width, in one row or several."""
    use_style()
    return plt.subplots(rows, columns, figsize=(WIDTH, height), **options)


def hide_axes(panel) -> None:
    """Leave ticks, grid and frame away: of pictures and schematic drawings."""
    panel.set(xticks=[], yticks=[])
    panel.grid(False)
    panel.spines[:].set_visible(False)


def share_limits(axes, pairs=((0, 1), (2, 3))) -> None:
    """Give the two panels of each pair, such as train and test, the same y-range."""
    for left, right in pairs:
        limits = [axes[left].get_ylim(), axes[right].get_ylim()]
        for panel in (axes[left], axes[right]):
            panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def plain_ticks(axes) -> None:
    """On logarithmic y-axes, numbers as 0.2 rather than 2 × 10⁻¹; equal steps if the range is short."""
    for panel in axes:
        low, high = panel.get_ylim()
        panel.yaxis.set_major_locator(MaxNLocator(5) if high < 8 * low else LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(lambda value, _: show(float(value)))
        panel.yaxis.set_minor_locator(NullLocator())


def share_legend(figure: Figure, panel) -> None:
    """One legend above all panels, since all show the same lines."""
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8)


def whole_epochs(axes) -> None:
    for panel in axes:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def sign(figure: Figure, text: str) -> None:
    """Print the provenance under the panels, in lines that fit."""
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, LINE)]
    figure.supxlabel("\n".join(lines), fontsize=8, color="0.3", gid=CAPTION, label=text)


def save_figure(figure: Figure, name: str, folder: Path) -> tuple[Path, Path]:
    """Write ``name.pdf`` and ``name.png`` to their place in `folder`; the bytes depend on the drawing alone.

    The drawn values are rounded first: the last digits differ between processors, and nobody sees them. The PNG has
    few colours, to stay small.
    """
    for panel in figure.axes:
        round_drawn(panel)
    say_log(figure)
    figure.draw_without_rendering()  # once for both files: the layout takes as long as the drawing
    figure.set_layout_engine("none")
    own, saved = figure.dpi, plt.rcParams["savefig.dpi"]
    # `savefig` would draw each file twice, and pack the picture, to be unpacked at once.
    document = BytesIO()
    figure.dpi = saved
    FigureCanvasPdf(figure).print_pdf(document, metadata={"CreationDate": None, "Producer": None})
    figure.dpi = saved  # a PDF has set its own
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.dpi = own
    picture = reduce_colours(Picture.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    paths = place(folder, f"{name}.pdf"), place(folder, f"{name}.png")
    for path, content in zip(paths, (document, _write_png(picture)), strict=True):
        write_atomically(path, content.getvalue())
    return paths


def reduce_colours(picture: Picture.Image) -> Picture.Image:
    """At most 256 colours: the 128 most frequent colours of an RGB picture, unchanged, and 128 that cover it best.

    With covering colours only, a pale band could get the tint of another method.
    """
    pixels = np.asarray(picture, dtype=np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    found, places, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).astype(np.uint8)
    covering = picture.quantize(128, Picture.Quantize.MAXCOVERAGE, dither=Picture.Dither.NONE).getpalette()
    frequent = colours[np.argsort(-counts, kind="stable")[:128]]
    palette = np.concatenate([frequent, np.reshape(covering, (-1, 3)).astype(np.uint8)])
    nearest = KDTree(palette.astype(float)).query(colours.astype(float))[1]
    reduced = Picture.fromarray(nearest[places].reshape(pixels.shape).astype(np.uint8), mode="P")
    reduced.putpalette(palette.tobytes())
    return reduced


def _write_png(picture: Picture.Image) -> BytesIO:
    content = BytesIO()
    picture.save(content, "png", optimize=True)
    return content


def show_figure(figure: Figure, name: str, folder: Path) -> None:
    """`save_figure`, and show the picture in a notebook; the text printed by `sign` follows as text."""
    _, path = save_figure(figure, name, folder)
    picture, captions = Picture.open(path), [text for text in figure.texts if text.get_gid() == CAPTION]
    for caption in captions:
        top = caption.get_window_extent(figure.canvas.get_renderer()).y1 / figure.bbox.height
        picture = picture.crop((0, 0, picture.width, round(picture.height * (1 - top))))
    display(Image(_write_png(picture).getvalue(), width=96 * WIDTH))
    for caption in captions:
        display(Markdown(caption.get_label().replace("\n", "  \n")))  # two spaces: a new line
    plt.close(figure)


def say_log(figure: Figure) -> None:
    """Add "(log scale)" to the label of every logarithmic axis that does not say so yet.

    If no panel has a label for y, the titles name what is drawn, and get the words.
    """
    titled = not any(panel.get_ylabel() for panel in figure.axes)
    for panel in figure.axes:
        for axis, name in (("x", "xlabel"), ("y", "title" if titled else "ylabel")):
            text = getattr(panel, f"get_{name}")()
            if getattr(panel, f"get_{axis}scale")() == "log" and text and "log scale" not in text:
                between = "\n" if name == "title" and len(text) > LONG_TITLE else " "
                getattr(panel, f"set_{name}")(f"{text}{between}(log scale)")


def round_drawn(panel: Axes) -> None:
    """Round drawn values and limits of a panel to `DIGITS` digits of the range, on log axes of the value itself."""
    scales = {"x": panel.get_xscale(), "y": panel.get_yscale()}
    limits = {"x": panel.get_xlim(), "y": panel.get_ylim()}

    def rounded(values, axis: str) -> np.ndarray:
        return round_values(values, None if scales[axis] == "log" else np.ptp(limits[axis]))

    def rounded_pairs(pairs: np.ndarray) -> np.ndarray:
        pairs = np.ma.getdata(pairs)
        return np.column_stack([rounded(pairs[:, 0], "x"), rounded(pairs[:, 1], "y")]) if len(pairs) else pairs

    for line in panel.lines:
        line.set_data(rounded(line.get_xdata(orig=False), "x"), rounded(line.get_ydata(orig=False), "y"))
    for collection in panel.collections:
        if len(collection.get_offsets()) > 1:
            collection.set_offsets(rounded_pairs(collection.get_offsets()))
        if not isinstance(collection, PathCollection):  # its paths are its marks
            for path in collection.get_paths():
                path.vertices = rounded_pairs(path.vertices)
    for patch in panel.patches:
        if isinstance(patch, Polygon):
            patch.set_xy(rounded_pairs(patch.get_xy()))
    for text in panel.texts:
        text.set_position(rounded_pairs(np.array([text.get_position()], dtype=float))[0])
        if isinstance(text, Annotation):
            text.xy = tuple(rounded_pairs(np.array([text.xy], dtype=float))[0])
    for image in panel.images:
        image.set_data(round_values(image.get_array(), None))
    panel.set(xlim=rounded(limits["x"], "x"), ylim=rounded(limits["y"], "y"))


def round_values(values, span: float | None) -> np.ndarray:
    """Round numbers to `DIGITS` significant digits; if a span is given, to `DIGITS` digits of the span.

    Example:
        >>> round_values([0.12345678, 1e-17], span=2.0).tolist(), round_values([1.23456789e-12], None).tolist()
        ([0.12346, 0.0], [1.23457e-12])
    """
    values = np.asarray(values)
    if values.dtype.kind != "f":
        return values
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        size = np.log10(np.abs(values) if span is None else np.full_like(values, span or 1.0, dtype=float))
        places = DIGITS - 1 - np.floor(np.where(np.isfinite(size), size, 0))
        found = np.round(values * 10.0**places) / 10.0**places + 0.0  # no negative zero
    return np.where(np.isfinite(found), found, values)
