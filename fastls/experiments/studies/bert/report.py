"""Results of the notebook of BERT beside Table 3: which SGD the paper timed, and whether the timed loop learns."""

import pandas as pd
from matplotlib.figure import Figure

from fastls.experiments.reporting.curves import count_runs, draw_lines
from fastls.experiments.reporting.frames import CONSTANT, label_lines
from fastls.experiments.reporting.intervals import ratio_interval
from fastls.experiments.reporting.style import CONSTANT_ANSWER, new_figure, share_legend, sign
from fastls.experiments.reporting.tables import seconds_by_round
from fastls.experiments.training.store import Run

LATENT = ("MGDA-UB", "FBLS")
PANELS = {"train_loss": "train loss", "test_loss": "dev loss", "pearson": "dev Pearson", "spearman": "dev Spearman"}


def compare_readings(run: Run, printed: dict, tasks: int) -> pd.DataFrame:
    """Compare both readings of the paper's SGD with its printed shares; one row per latent method and reading.

    ``counted`` is the ratio of encoder passes alone, if a backward costs two forwards. Two changes would give the
    printed share instead. ``needed backward``: another cost of a backward, in forwards (none with T forwards, where it
    cancels). ``needed overhead``: time, in forwards, that every method spends outside the encoder (none if negative).
    """
    seconds, latent_cost = seconds_by_round(run), 1 + 2
    table = []
    for method in LATENT:
        share = printed[method] / printed["SGD"]
        for reading, forwards in (("SGD", 1), ("SGD, T forwards", tasks)):
            ratio, low, high = ratio_interval(seconds[method] / seconds[reading])
            cost = forwards + 2 * tasks
            table.append(
                {
                    "ratio": f"{method} / SGD",
                    "encoder forwards of SGD": forwards,
                    "paper": share,
                    "counted": latent_cost / cost,
                    "ours": ratio,
                    "low": low,
                    "high": high,
                    "needed backward": (1 - share) / (share * tasks - 1) if forwards == 1 else None,
                    "needed overhead": (share * cost - latent_cost) / (1 - share),
                    "n": len(seconds),
                }
            )
    return pd.DataFrame(table)


def describe_readings(readings: pd.DataFrame) -> list[str]:
    """One sentence per latent method: the paper's share, ours for both readings, and which reading is nearer to it."""
    sentences = []
    for name, (shared, separate) in ((name, rows.to_dict("records")) for name, rows in readings.groupby("ratio")):
        ours = [f"{row['ours']:.2f} ({row['low']:.2f} to {row['high']:.2f})" for row in (shared, separate)]
        nearer = min((shared, separate), key=lambda row: abs(row["ours"] - row["paper"]))
        reading = "one forward for all tasks" if nearer is shared else "a forward a task"
        sentences.append(
            f"{name}: the paper prints {shared['paper']:.2f}; measured here {ours[0]} with one forward for all tasks "
            f"and {ours[1]} with a forward a task. Nearer to the paper: **{reading}**."
        )
    return sentences


def add_correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of runs with columns ``pearson`` and ``spearman`` of the dev set, means over the tasks."""
    return frame.assign(**{name: frame.filter(like=f"test_{name}_").mean(axis=1) for name in ("pearson", "spearman")})


def tabulate_learning(frame: pd.DataFrame) -> pd.DataFrame:
    """The last epoch of every method and step: means over seeds; a diverged run has no metrics."""
    steps = frame["lr"].map("{:g}".format)
    method = frame["variant"].where(~frame["variant"].isin(CONSTANT), frame["variant"] + " " + steps)
    final = frame.assign(method=method)[frame["final"]].astype({"gain_median": float}).groupby("method", sort=False)
    columns = ["train_loss", "test_loss", "pearson", "spearman", "step_median", "trials", "gain_median"]
    table = final[columns].mean().assign(diverged=final["diverged"].sum(), n=final.size())
    return table.reset_index().rename(columns=PANELS | {"step_median": "step", "gain_median": "gain"})


def draw_learning(frame: pd.DataFrame, answer: float, source: str) -> tuple[Figure, pd.DataFrame]:
    """Losses and correlations by epoch: the searches, each rival at its best constant step, and SGD at its smallest.

    Lines are means over the seeds that have not diverged, bands span them.

    Args:
        frame: epochs of the runs, see `add_correlations`.
        answer: dev loss of the best constant answer, a level.
        source: what is printed below.
    """
    labelled, lines = label_lines(frame)
    figure, axes = new_figure(len(PANELS), height=3.1)
    table = draw_lines(axes, labelled, lines, PANELS)
    axes[1].axhline(answer, label="constant answer", **CONSTANT_ANSWER)
    share_legend(figure, axes[1])
    caption = f"mean of the tasks, bands from the lowest to the highest run · {count_runs(labelled, lines)}"
    sign(figure, f"{caption}\n{source}")
    return figure, table
