"""The figure and the table of a `Growth`, and the targets that it decides."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from fastls.experiments.reporting.frames import provenance
from fastls.experiments.reporting.intervals import ratio_interval
from fastls.experiments.reporting.style import WIDTH, line_style, plain_ticks, share_legend, sign, use_style
from fastls.experiments.studies.growth.growth import LATENT, METHODS, PEER, PLAIN, WARM
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
    PEER: line_style("BLS"),
    "EqualWeight": line_style("EqualWeight") | {"linestyle": "-"},
    "FBLS": line_style("FBLS"),
}


def draw_growth(run: Run) -> Figure:
    """Milliseconds a step above and peak memory below, a column for what grows; all axes logarithmic."""
    rows = pd.DataFrame(run.rows)
    varied = list(dict.fromkeys(rows["varied"]))
    use_style()
    figure, axes = plt.subplots(2, len(varied), figsize=(WIDTH, 5.0), sharex="col", squeeze=False)
    for column, name in zip(axes.T, varied, strict=True):
        part = rows[rows["varied"] == name]
        for method in METHODS:
            means = part[part["method"] == method].groupby(name)[["ms", "peak_mb"]].agg(_geometric_mean)
            for panel, what in zip(column, means, strict=True):
                panel.plot(means.index, means[what], label=method, **STYLES[method])
        column[0].set(xscale="log", yscale="log")
        column[1].set(yscale="log", xlabel=name_series(name, part))
        ticks = sorted(part[name].unique())
        column[1].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        column[1].minorticks_off()
    axes[0, 0].set_ylabel("ms a step")
    axes[1, 0].set_ylabel("peak memory, MB")
    plain_ticks(axes.ravel())
    share_legend(figure, axes[0, 0])
    sign(figure, f"geometric means of n = {rows['round'].nunique()} rounds · {describe(run)}")
    return figure


def name_series(varied: str, rows: pd.DataFrame) -> str:
    """What grows, and at which T."""
    return LABELS[varied] if varied == "tasks" else f"{LABELS[varied]}, T = {rows['tasks'].iloc[0]}"


def _geometric_mean(values: pd.Series) -> float:
    return float(np.exp(np.log(values).mean()))


def describe(run: Run) -> str:
    """Where the numbers come from."""
    most = run.config["peer_at_most"]
    model = f"ResNet, z of {LATENT} numbers, linear decoders where nothing else is said"
    return f"{model} · {provenance([run])} where it does not grow · {PEER} up to T × batch = {most:,}"


def tabulate_growth(run: Run) -> pd.DataFrame:
    """A row per series and method: from where to where, ms at both ends, log-log slopes of ms and of peak memory.

    ``/ plain PyTorch`` is the ratio of times at the largest size that the method was measured at, round by round.
    """
    rows, table = pd.DataFrame(run.rows), []
    for name, part in rows.groupby("varied", sort=False):
        plain = part[part["method"] == PLAIN].set_index([name, "round"])["ms"]
        for method, own in part.groupby("method", sort=False):
            means = own.groupby(name)[["ms", "peak_mb"]].agg(_geometric_mean)
            first, last = means.index[[0, -1]]
            slope, memory = (stats.linregress(np.log(means.index), np.log(means[what])).slope for what in means)
            ratio, low, high = ratio_interval(own[own[name] == last].set_index("round")["ms"] / plain[last])
            table.append(
                {
                    "grows": f"{name_series(name, part)}: {first:g} to {last:g}",
                    "method": method,
                    "ms": f"{means['ms'].iloc[0]:,.0f} to {means['ms'].iloc[-1]:,.0f}",
                    "slope": slope,
                    "/ plain PyTorch": ratio,
                    "low, / plain PyTorch": low,
                    "high, / plain PyTorch": high,
                    "peak MB": f"{means['peak_mb'].iloc[0]:,.0f} to {means['peak_mb'].iloc[-1]:,.0f}",
                    "slope of memory": memory,
                    "trials": own["trials"].mean(),
                    "n": own["round"].nunique(),
                }
            )
    return pd.DataFrame(table)


def compare_at_most_tasks(run: Run) -> tuple[int, dict[str, tuple], dict[str, float]]:
    """At the largest T × batch: T, and FBLS and its warm start over EqualWeight: ratio, interval, n; and peak memory.

    The memory that counts is what is beyond one block of T × |z| numbers, which every latent method holds.
    """
    rows = pd.DataFrame(run.rows)
    rows = rows[rows["tasks"] * rows["batch"] == (rows["tasks"] * rows["batch"]).max()]
    ms = rows.pivot(index="round", columns="method", values="ms")
    peaks = rows.groupby("method")["peak_mb"].first()
    tasks = int(rows["tasks"].iloc[0])
    block = 4e-6 * LATENT * tasks * float(rows["batch"].iloc[0])
    methods = ("FBLS", WARM)
    ratios = {name: (*ratio_interval(ms[name] / ms["EqualWeight"]), len(ms)) for name in methods}
    return tasks, ratios, {name: (peaks[name] - block) / peaks["EqualWeight"] for name in methods}
