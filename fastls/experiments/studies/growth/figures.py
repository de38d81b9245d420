"""The figure and the table of a `Growth`, and the ratios that its targets judge."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from fastls.experiments.reporting.condense import show
from fastls.experiments.reporting.frames import provenance
from fastls.experiments.reporting.intervals import mean_interval, name_interval, ratio_interval
from fastls.experiments.reporting.style import draw_with_band, line_style, new_figure, plain_ticks, share_legend, sign
from fastls.experiments.studies.growth.growth import METHODS, PEER, PLAIN, WARM
from fastls.experiments.studies.growth.networks import LATENT
from fastls.experiments.training.store import Run

LABELS = {
    "tasks": "tasks T",
    "blocks": "blocks a stage",
    "width": "decoder width",
    "batch": "batch",
}
STYLES = {
    PLAIN: {"color": "black", "linestyle": (0, (1, 1)), "marker": "x", "markersize": 4, "linewidth": 1.5},
    WARM: {"color": "#00523b", "linestyle": "--", "marker": "P", "markersize": 4, "linewidth": 1.5},
    PEER: {"color": "#ca9161", "linestyle": "-.", "marker": "s", "markersize": 4, "linewidth": 1.5},
    "EqualWeight": line_style("EqualWeight") | {"linestyle": "-"},
    "FBLS": line_style("FBLS"),
}


def draw_growth(run: Run) -> Figure:
    """Above: time over plain PyTorch's; below: peak memory. One column per growing size; all axes are logarithmic."""
    rows = with_ratios(run)
    varied = list(dict.fromkeys(rows["varied"]))
    figure, axes = new_figure(len(varied), 5.0, rows=2, sharex="col", squeeze=False)
    for column, name in zip(axes.T, varied, strict=True):
        part = rows[rows["varied"] == name]
        for method in METHODS:
            own = part[part["method"] == method].groupby(name)[["ratio", "peak_mb"]]
            means, low, high = own.agg(stats.gmean), own.min()["ratio"], own.max()["ratio"]
            style = STYLES[method] | {"label": method}
            draw_with_band(column[0], means["ratio"], low, high, style)
            column[1].plot(means.index, means["peak_mb"], **style)
        column[0].set(xscale="log", yscale="log")
        column[1].set(yscale="log", xlabel=name_series(name, part))
        ticks = sorted(part[name].unique())
        column[1].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        column[1].minorticks_off()
    axes[0, 0].set_ylabel("time / plain")
    axes[1, 0].set_ylabel("peak MB")
    plain_ticks(axes.ravel())
    share_legend(figure, axes[0, 0])
    rounds = (
        f"ratios within n = {rows['round'].nunique()} rounds, geometric means, bands from the lowest to the highest"
    )
    sign(figure, f"{rounds} · {describe(run)}")
    return figure


def with_ratios(run: Run) -> pd.DataFrame:
    """The rows, with ``ratio``: the time of a step over plain PyTorch's at the same size and round.

    Methods take turns, sizes do not: a machine that slows down between sizes changes milliseconds, but no ratio.
    """
    rows = pd.DataFrame(run.rows)
    at = ["varied", "tasks", "blocks", "width", "batch", "round"]
    plain = rows[rows["method"] == PLAIN].set_index(at)["ms"]
    return rows.assign(ratio=rows["ms"].to_numpy() / plain.loc[pd.MultiIndex.from_frame(rows[at])].to_numpy())


def name_series(varied: str, rows: pd.DataFrame) -> str:
    """The growing size and, unless it is T itself, the value of T."""
    return LABELS[varied] if varied == "tasks" else f"{LABELS[varied]}, T = {rows['tasks'].iloc[0]}"


def describe(run: Run) -> str:
    """Model, limits and provenance of the numbers."""
    batch, most = run.config["batch_size"], run.config["peer_at_most"]
    model = f"ResNet, z of {LATENT} numbers, linear decoders where nothing else is said"
    limits = f"batch {batch} where it does not grow; {PEER} up to T × batch = {most:,}"
    return f"{model} · {limits} · {provenance([run])}"


def tabulate_growth(run: Run) -> pd.DataFrame:
    """One row per series and method: times over plain PyTorch's at the smallest and largest size, and their growth.

    ``slope`` is the slope of log(ratio) against log(size), round by round, with its interval; ``slope of memory`` is
    the slope of log(peak memory).
    """
    rows, table = with_ratios(run), []
    for name, part in rows.groupby("varied", sort=False):
        for method, own in part.groupby("method", sort=False):
            ratios = own.pivot(index="round", columns=name, values="ratio")
            means = own.groupby(name)[["ms", "peak_mb"]].agg(stats.gmean)
            line = {"grows": f"{name_series(name, part)}: {means.index[0]:g} to {means.index[-1]:g}", "method": method}
            line["ms"] = " to ".join(show(float(ms)) for ms in means["ms"].iloc[[0, -1]])
            for label, values in (("at first", ratios.iloc[:, 0]), ("at last", ratios.iloc[:, -1])):
                line |= name_interval(f"{label} / plain", ratio_interval(values))
            slopes = [_slope(ratios.columns, values) for values in ratios.to_numpy()]
            line |= name_interval("slope", mean_interval(slopes))
            line["peak MB"] = " to ".join(show(float(peak)) for peak in means["peak_mb"].iloc[[0, -1]])
            line["slope of memory"] = round(_slope(means.index, means["peak_mb"]), 3)
            table.append(line | {"trials": own["trials"].mean(), "n": len(ratios)})
    return pd.DataFrame(table)


def _slope(sizes, values) -> float:
    return stats.linregress(np.log(np.asarray(sizes, dtype=float)), np.log(values)).slope


def compare_at_most_tasks(run: Run) -> list[tuple[str, tuple, float]]:
    """FBLS and its warm start over EqualWeight at the largest T, for every batch size measured there.

    Returns:
        Name, ratio of times with its interval and n, ratio of peak memory.
    """
    rows = pd.DataFrame(run.rows)
    rows = rows[(rows["varied"] == "batch") & (rows["tasks"] == rows["tasks"].max())]
    return [
        compared
        for batch, part in rows.groupby("batch")
        for compared in _beside_equal_weight(part, f"T = {part['tasks'].iloc[0]}, batch {batch}")
    ]


def compare_networks(run: Run) -> list[tuple[str, tuple, float]]:
    """As `compare_at_most_tasks`, for every network."""
    return [
        compared
        for network, part in pd.DataFrame(run.rows).groupby("network", sort=False)
        for compared in _beside_equal_weight(part, f"{network}, T = {part['tasks'].iloc[0]}")
    ]


def _beside_equal_weight(rows: pd.DataFrame, where: str) -> list[tuple[str, tuple, float]]:
    ms = rows.pivot(index="round", columns="method", values="ms")
    peaks = rows.groupby("method")["peak_mb"].first()
    return [
        (
            f"{method} / EqualWeight, {where}",
            (*ratio_interval(ms[method] / ms["EqualWeight"]), len(ms)),
            peaks[method] / peaks["EqualWeight"],
        )
        for method in ("FBLS", WARM)
    ]


def tabulate_networks(run: Run) -> pd.DataFrame:
    """A row per network and method: time over that of plain PyTorch, round by round, trials, and peak memory."""
    table = []
    for network, part in pd.DataFrame(run.rows).groupby("network", sort=False):
        ms = part.pivot(index="round", columns="method", values="ms")
        for method, own in part.groupby("method", sort=False):
            line = {"network": f"{network}, T = {own['tasks'].iloc[0]}", "method": method}
            line |= {"ms": stats.gmean(own["ms"])} | name_interval("/ plain", ratio_interval(ms[method] / ms[PLAIN]))
            table.append(line | {"trials": own["trials"].mean(), "peak MB": own["peak_mb"].iloc[0], "n": len(ms)})
    return pd.DataFrame(table)
