"""Claim 2: the larger the encoder beside the decoders, the more FBLS saves. Measured steps against counted passes.

The encoder's share of the cost changes in two ways: with its layers, for fixed decoders, and with the width of the
decoders, for a fixed encoder. The prediction needs no timing of a method. One forward and one backward of the encoder
and of a decoder are measured; the predicted time of a step is the sum over its counted passes.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from scipy import stats
from tqdm import tqdm

from fastls.datasets.common import MultiTaskData
from fastls.experiments.measuring.measurement import Measurement
from fastls.experiments.measuring.passes import encoder_share, measure_passes
from fastls.experiments.measuring.timing import Timing, time_in_turn
from fastls.experiments.reporting.claims import ClaimRow, decide
from fastls.experiments.reporting.intervals import LEVEL, Estimate, ratio_interval
from fastls.experiments.reporting.style import new_figure, plain_ticks, share_legend, sign
from fastls.experiments.training.store import Run
from fastls.experiments.training.training import PASSES, Training

METHODS = ("SGD", "BLS", "FBLS")
RIVALS = ("SGD", "BLS")


@dataclass(frozen=True)
class ShareTiming(Measurement):
    """Steps on models with different shares of the encoder: one row per model, round and method.

    A row holds the ``seconds`` of the method's step, its counted passes, and ``seconds_<pass>`` of one pass each,
    measured in the same round.

    Attributes:
        layers: numbers of layers of the encoder, with decoders of the width `decoder_width`.
        decoder_widths: widths of the decoders, with an encoder of the fewest of `layers`.
        rounds: measured steps per model and method.
        lr: of SGD.
    """

    name: ClassVar[str] = "encoder-share"
    layers: tuple[int, ...]
    decoder_width: int
    decoder_widths: tuple[int, ...]
    rounds: int
    lr: float

    @property
    def identity(self) -> dict:
        models = [list(model) for model in self.models]
        return Timing(self.setting, self.rounds, METHODS, self.lr).identity | {"models": models}

    @property
    def models(self) -> list[tuple[str, int, int]]:
        """(what varies, layers, width of the decoders) of every model."""
        by_layers = [("layers", layers, self.decoder_width) for layers in self.layers]
        return by_layers + [("decoder_width", min(self.layers), width) for width in self.decoder_widths]

    def measure(self, data: MultiTaskData) -> list[dict]:
        rows = []
        for varied, layers, decoder_width in tqdm(self.models, desc="encoder's share", unit="model"):
            sizes = {"layers": layers, "decoder_width": decoder_width}
            options = tuple((dict(self.setting.model_options) | sizes).items())
            timing = Timing(replace(self.setting, model_options=options), self.rounds, METHODS, self.lr)
            trainings = {method: Training(timing.method_config(method), data) for method in METHODS}
            measured = time_in_turn(trainings, range(self.rounds + 1), lambda: measure_passes(trainings["FBLS"]))  # noqa: B023
            rows += [{"varied": varied} | sizes | row for row in measured if row["round"] > 0]  # the first warms up
        return [row | {"seconds": round(row["seconds"] / row["steps"], 5)} for row in rows]


def compare_shares(run: Run) -> pd.DataFrame:
    """One row per model: the encoder's share of one forward and backward, and the ratios FBLS / SGD and FBLS / BLS.

    Ratios are taken within a round. Measured ones are geometric means over the rounds, with ``low`` and ``high`` as the
    ends of their 95 % intervals; predicted ones are medians.
    """
    frame = pd.DataFrame(run.rows)
    frame["predicted"] = sum(frame[name] * frame[f"seconds_{name}"] for name in PASSES)
    table = []
    for (varied, layers, decoder_width), rows in frame.groupby(["varied", "layers", "decoder_width"], sort=False):
        measured, predicted = (rows.pivot(index="round", columns="method", values=v) for v in ("seconds", "predicted"))
        # every method runs each decoder backward once a step
        share = float(encoder_share(rows, tasks=rows["decoder_backward"]).median())
        line = {"varied": varied, "layers": layers, "decoder_width": decoder_width, "share": share}
        for rival in RIVALS:
            ratio, low, high = ratio_interval(measured["FBLS"] / measured[rival])
            line |= {f"FBLS / {rival}": ratio, f"low, {rival}": low, f"high, {rival}": high}
            line[f"predicted, {rival}"] = float((predicted["FBLS"] / predicted[rival]).median())
        trials = rows.groupby("method")["trials"].mean()
        table.append(line | {"trials of BLS": trials["BLS"], "trials of FBLS": trials["FBLS"], "n": len(measured)})
    return pd.DataFrame(table)


def judge_shares(table: pd.DataFrame, data: str, rival: str) -> ClaimRow:
    """Claim 2: FBLS saves more at the largest share than at the smallest: the log of (large / small) is below 0."""
    small, large = (table.loc[table["share"].agg(which)] for which in ("idxmin", "idxmax"))
    n = int(table["n"].min())
    ends = [np.log(row[[f"FBLS / {rival}", f"low, {rival}", f"high, {rival}"]].astype(float)) for row in (large, small)]
    errors = [(high - low) / 2 / stats.t.ppf(1 - LEVEL / 2, n - 1) for _, low, high in ends]
    quotient = Estimate(ends[0].iloc[0] - ends[1].iloc[0], float(np.hypot(*errors)), n - 1, n)
    verdict, p = decide(quotient, 0.0, 0.0)
    values = (large[f"FBLS / {rival}"], small[f"FBLS / {rival}"], quotient.value, *quotient.interval, n)
    note = (
        f"at an encoder's share of {large['share']:.3f}, against a share of {small['share']:.3f}; log of the quotient"
    )
    return ClaimRow(
        "2", data, f"FBLS / {rival}", "itself at a smaller share", "seconds", *values, p, verdict, True, None, note
    )


# what varies -> label, style: black and brown, since the colours of the methods mean something else
SERIES = {
    "layers": ("layers", {"color": "0.1", "marker": "o"}, "-", (8, -10)),
    "decoder_width": ("decoder width", {"color": "#ca9161", "marker": "s"}, "--", (6, 6)),
}
SHARES = (0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995)  # ticks


def draw_shares(table: pd.DataFrame, tasks: int, source: str) -> tuple[Figure, pd.DataFrame]:
    """FBLS / SGD and FBLS / BLS against the encoder's share: measured as points with intervals, predicted as lines."""
    figure, axes = new_figure(2, height=3.6)
    for panel, rival in zip(axes, RIVALS, strict=True):
        for varied in SERIES:
            _draw_series(panel, table[table["varied"] == varied].sort_values("share"), rival, varied)
        panel.set(xscale="logit", xlabel="encoder's share of a forward and backward (logit scale)")
        panel.set(yscale="log", title=f"time of a step, FBLS / {rival}")
        panel.xaxis.set_major_locator(FixedLocator(SHARES))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(lambda share, _: f"{share:.4g}")
        panel.margins(0.1, 0.15)
    plain_ticks(axes)
    limit = f"3/{1 + 2 * tasks}: encoder alone, backward = 2 forwards"
    axes[0].axhline(3 / (1 + 2 * tasks), color="0.4", linewidth=1, linestyle=":", label=limit)
    share_legend(figure, axes[0])
    measured = f"points: measured, geometric means of n = {table['n'].min()} rounds with 95 % intervals"
    sign(figure, f"{measured} · lines: counted passes × one pass each\n{source}")
    return figure, table


def _draw_series(panel, rows: pd.DataFrame, rival: str, varied: str) -> None:
    label, style, line, place = SERIES[varied]
    shares, ratios = rows["share"], rows[f"FBLS / {rival}"]
    spread = [ratios - rows[f"low, {rival}"], rows[f"high, {rival}"] - ratios]
    panel.plot(shares, rows[f"predicted, {rival}"], line, color=style["color"], label=f"{label}, predicted")
    panel.errorbar(
        shares, ratios, yerr=spread, linestyle="", markersize=4, capsize=2, label=f"{label}, measured", **style
    )
    for share, ratio, value in zip(shares, ratios, rows[varied], strict=True):
        panel.annotate(
            f"{value:,}", (share, ratio), place, textcoords="offset points", color=style["color"], fontsize=7
        )
