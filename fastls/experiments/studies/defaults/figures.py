"""Figures of notebook 08."""

import pandas as pd
from matplotlib.figure import Figure

from fastls.experiments.reporting import style
from fastls.experiments.studies.defaults.comparison import AVERAGED

DRAWN = ("AdamFBLS", "AdamW", "NAdam", "Prodigy", "ScheduleFree")  # more than five curves are hard to tell apart


def draw_curves(entries: dict[str, pd.DataFrame], source: str) -> tuple[Figure, pd.DataFrame]:
    """Test loss over epochs, one column per data set: weights above, running mean of the weights below.

    Lines are means over seeds, bands their range.

    Args:
        entries: data set -> `comparison.to_entries`.
        source: provenance.
    """
    figure, axes = style.new_figure(len(entries), 5.4, rows=2, squeeze=False, sharey="col")
    drawn = []
    for column, (name, frame) in enumerate(entries.items()):
        for row, suffix in enumerate(("", AVERAGED)):
            panel = axes[row][column]
            for method in DRAWN:
                part = frame[(frame["variant"] == method + suffix) & ~frame["diverged"]]
                table = part.groupby("epoch")["test_loss"].agg(mean="mean", low="min", high="max")
                look = style.line_style(method) | {"label": method} | style.spread_markers(len(table))
                style.draw_with_band(panel, table["mean"], table["low"], table["high"], look)
                drawn.append(table.reset_index().assign(dataset=name, variant=method + suffix))
            panel.set(title=f"{name}: {'mean of the weights' if suffix else 'weights'}", yscale="log")
        style.plain_ticks(axes[:, column])
        style.whole_epochs(axes[:, column])
        axes[1][column].set_xlabel("epoch")
    for row in axes:
        row[0].set_ylabel("test loss")
    style.share_legend(figure, axes[0][0])
    style.sign(figure, source)
    return figure, pd.concat(drawn, ignore_index=True)


def draw_steps(entries: dict[str, pd.DataFrame], source: str) -> tuple[Figure, pd.DataFrame]:
    """The step size that AdamFBLS finds, over epochs: median over steps, band from the 5th to the 95th percentile."""
    figure, panel = style.new_figure(1, height=3.2)
    looks = dict(zip(entries, (("C0", "-", "o"), ("C1", "--", "s"), ("C2", ":", "^")), strict=False))
    drawn = []
    for name, frame in entries.items():
        part = frame[(frame["variant"] == "AdamFBLS") & ~frame["diverged"]]
        table = part.groupby("epoch")[["step_median", "step_p05", "step_p95"]].median()
        colour, line, marker = looks[name]
        share = (table.index - 0.5) / part["epochs"].iloc[0]
        table = table.set_axis(share.rename("share of training"))
        look = {"color": colour, "linestyle": line, "marker": marker, "label": name}
        style.draw_with_band(panel, table["step_median"], table["step_p05"], table["step_p95"], look)
        drawn.append(table.reset_index().assign(dataset=name))
    panel.set(xlabel="share of the training, middle of each epoch", ylabel="step size η", yscale="log")
    style.share_legend(figure, panel)
    style.sign(figure, source)
    return figure, pd.concat(drawn, ignore_index=True)
