"""Figures of notebook 07: searches without a bound beside tuned constant steps, and their sensitivity."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fastls.experiments.reporting import style
from fastls.experiments.studies.beyond.comparison import CONSTANT, SEARCHES, find_tuned

VARIED = {"bound": "lr", "beta": "beta", "batch_size": "batch_size", "latent_scale": "latent_scale"}  # -> its column
TITLES = {"multimnist": "MultiMNIST", "cifar10": "CIFAR-10"}


def draw_against_steps(
    frames: dict[str, pd.DataFrame], answers: dict[str, float], source: str
) -> tuple[Figure, pd.DataFrame]:
    """Final test loss over the constant step size, one panel per data set; searches as horizontal lines.

    Args:
        frames: data set -> epochs of its runs.
        answers: data set -> test loss of the best constant answer, also a horizontal line.
        source: text that is printed below.

    Returns:
        The figure and the means and ranges that it shows.
    """
    figure, panels = style.new_figure(len(frames), height=3.2, squeeze=False)
    drawn = []
    for panel, (name, frame) in zip(panels[0], frames.items(), strict=True):
        table = _summarize(frame[frame["final"]], ["variant", "lr"])
        for method in CONSTANT:
            part = table[table["variant"] == method].sort_values("lr")
            look = style.line_style(method)
            panel.plot(part["lr"], part["mean"], label=method, **look)
            panel.vlines(part["lr"], part["low"], part["high"], color=look["color"], linewidth=1)
        for method in SEARCHES:
            part = table[table["variant"] == method]
            if part.empty:  # it diverged
                continue
            look = style.line_style(method)
            panel.axhline(part["mean"].iloc[0], color=look["color"], linestyle=look["linestyle"], label=method)
            panel.axhspan(part["low"].iloc[0], part["high"].iloc[0], color=look["color"], alpha=0.12, linewidth=0)
        panel.axhline(answers[name], label="constant answer", **style.CONSTANT_ANSWER)
        panel.set(title=TITLES[name], xlabel="constant step size", xscale="log", yscale="log")
        drawn.append(table.assign(dataset=name))
    style.plain_ticks(panels[0])
    panels[0][0].set_ylabel("final test loss")
    style.share_legend(figure, panels[0][0])
    style.sign(figure, source)
    return figure, pd.concat(drawn, ignore_index=True)


def draw_curves(frames: dict[str, pd.DataFrame], source: str) -> tuple[Figure, pd.DataFrame]:
    """Test loss over epochs: each search, and each rival at its best constant step; mean and range over seeds."""
    figure, panels = style.new_figure(len(frames), height=3.2, squeeze=False)
    drawn = []
    for panel, (name, frame) in zip(panels[0], frames.items(), strict=True):
        best = {rival: find_tuned(frame[frame["final"]], rival)[0] for rival in CONSTANT}
        for method in (*CONSTANT, *SEARCHES):
            part = frame[frame["variant"] == method]
            part = part[part["lr"] == best[method]] if method in best else part
            table = _summarize(part, ["epoch"]).set_index("epoch")
            look = style.line_style(method) | {"label": method} | style.spread_markers(len(table))
            style.draw_with_band(panel, table["mean"], table["low"], table["high"], look)
            drawn.append(table.reset_index().assign(dataset=name, variant=method, step=best.get(method)))
        said = {rival: "diverged at every step" if np.isnan(step) else f"{step:g}" for rival, step in best.items()}
        steps = ", ".join(f"{rival} {step}" for rival, step in said.items())
        panel.set_title(f"{TITLES[name]}\n{steps}", fontsize=8)
        panel.set(xlabel="epoch", yscale="log")
    style.plain_ticks(panels[0])
    panels[0][0].set_ylabel("test loss")
    style.whole_epochs(panels[0])
    style.share_legend(figure, panels[0][0])
    style.sign(figure, source)
    return figure, pd.concat(drawn, ignore_index=True)


def draw_sensitivity(parts: dict[str, pd.DataFrame], source: str) -> tuple[Figure, pd.DataFrame]:
    """Final test loss against bound, β, batch size and scale of z, each varied alone; mean and range over seeds.

    Args:
        parts: "bound", "beta", "batch_size", "latent_scale" -> epochs, with a column of that name ("lr" for "bound").
        source: provenance.
    """
    labels = {"bound": "bound, or step", "beta": "β", "batch_size": "batch size", "latent_scale": "scale of z"}
    figure, panels = style.new_figure(len(labels), height=3.2, sharey=True)
    shown, drawn = {}, []
    for panel, (name, label) in zip(panels, labels.items(), strict=True):
        column = VARIED[name]
        final = parts[name][parts[name]["final"]]
        failed = final[final["diverged"]]
        table = _summarize(final, ["variant", column])
        for method, part in table.groupby("variant"):
            look = style.line_style(method) | {"label": method}
            lost = failed.loc[failed["variant"] == method, column].unique()  # there the line breaks
            part = part.set_index(column)[["mean", "low", "high"]].drop(index=lost, errors="ignore")
            part = part.reindex(part.index.union(lost))
            style.draw_with_band(panel, part["mean"], part["low"], part["high"], look)
            shown |= {method: panel.get_lines()[-1]}
        for method, column_of in failed.groupby("variant")[column]:
            top = np.full(len(column_of), 0.97)
            look = {"color": style.line_style(method)["color"], "linestyle": "", "marker": r"$\infty$", "markersize": 8}
            panel.plot(column_of, top, transform=panel.get_xaxis_transform(), **look)
        panel.set(xlabel=label, yscale="log", xscale="linear" if name == "beta" else "log")
        drawn.append(table.assign(varied=name).rename(columns={column: "value"}))
    panels[0].set_ylabel("final test loss")
    table = pd.concat(drawn, ignore_index=True)
    top = 10 * table["mean"].median()
    above = table[table["mean"] > top]
    if len(above):
        panels[0].set_ylim(top=top)
    style.plain_ticks(panels[:1])
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=len(shown), fontsize=8)
    cut = "".join(
        f" {row.variant} at {row.value:g} ends above the panel, at {row.mean:.3g}." for row in above.itertuples()
    )
    style.sign(figure, f"{source}\n∞ at the top marks runs that diverged.{cut}")
    return figure, table


def draw_second_order(runs: dict[float, pd.DataFrame], source: str) -> tuple[Figure, pd.DataFrame]:
    """Distance to the Pareto set over steps, one panel per smallest singular value of A.

    Args:
        runs: singular value -> `toy.follow_all` from one start, with a column ``distance``.
        source: provenance.
    """
    figure, panels = style.new_figure(len(runs), height=3.0, sharey=True)
    for panel, (ratio, frame) in zip(panels, runs.items(), strict=True):
        for label, run in frame.groupby("label", sort=False):
            look = style.line_style(label) | style.spread_markers(len(run)) | {"label": label}
            panel.plot(run["step"] + 1, run["distance"].clip(lower=1e-12), **look)
        panel.set(title=f"singular values of A: 1 and {ratio:g}", xlabel="step, start = 1", xscale="log", yscale="log")
    panels[0].set_ylabel("distance to the set")
    style.share_legend(figure, panels[0])
    style.sign(figure, source)
    return figure, pd.concat(runs, names=["ratio"]).reset_index("ratio")


def draw_scalar_chain(table: pd.DataFrame, steps: int, source: str) -> tuple[Figure, pd.DataFrame]:
    """Loss after some steps of z = cθ, L = z²/2, over c."""
    figure, panel = style.new_figure(1, height=3.0)
    for method, part in table.groupby("method"):
        look = style.line_style(method) | {"label": method}
        panel.plot(part["c"], part["loss"].clip(1e-32, 1e32), **look | style.spread_markers(len(part)))
    factors = np.sort(table["c"].unique())
    panel.plot(factors, factors**2 / 2, color="0.45", linewidth=1, label="at the start")
    panel.axvline(2**0.5, color="0.45", linewidth=1, linestyle=":", label="c = √2")
    panel.set(xlabel="c, the factor of the encoder", ylabel=f"loss after {steps} steps", xscale="log", yscale="log")
    style.share_legend(figure, panel)
    style.sign(figure, f"{source} · losses are cut at 1e-32 and 1e32")
    return figure, table


def _summarize(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean, range and number of seeds of the test loss; a group with any diverged seed is left out."""
    kept = frame.groupby(list(by))["test_loss"].transform(lambda losses: losses.notna().all())
    table = frame[kept.astype(bool)].groupby(list(by))["test_loss"].agg(mean="mean", low="min", high="max", n="count")
    return table.reset_index()
