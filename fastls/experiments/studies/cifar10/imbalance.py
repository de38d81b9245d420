"""One-vs-rest tasks are imbalanced: error, balanced error and ten-way accuracy, beside those of a constant answer."""

import pandas as pd
from matplotlib.figure import Figure

from fastls.experiments.reporting.style import line_style, new_figure, share_legend, sign, spread_markers, whole_epochs

# Column -> title, and the score of a network that always answers "rest".
SCORES = {
    "test error": ("test error", 0.1),
    "balanced test error": ("balanced test error", 0.5),
    "ten-way accuracy": ("ten-way test accuracy", 0.1),
}


def draw_imbalance(frame: pd.DataFrame, source: str, lines: dict[str, str]) -> tuple[Figure, pd.DataFrame]:
    """Three scores of the test images against epochs, mean over the tasks and over runs, one line for each label.

    Args:
        frame: epochs of runs, with a column ``label``.
        source: provenance.
        lines: label -> variant whose style it takes.
    """
    frame = frame[~frame["diverged"]]
    frame = frame.assign(
        **{
            "test error": frame["test_error"],
            "balanced test error": frame.filter(like="test_balanced_error_").mean(axis=1),
            "ten-way accuracy": frame["test_ten_way_accuracy"],
        }
    )
    table = frame.groupby(["label", "epoch"])[list(SCORES)].mean()
    figure, axes = new_figure(len(SCORES))
    for panel, (column, (title, trivial)) in zip(axes, SCORES.items(), strict=True):
        for label, name in lines.items():
            if label in table.index.get_level_values(0):
                rows = table.loc[label]
                style = line_style(name) | spread_markers(len(rows))
                panel.plot(rows.index, rows[column], label=label, **style)
        panel.axhline(trivial, color="0.3", linewidth=0.8, label='always "rest"')
        panel.set(xlabel="epoch", ylim=(0, None), title=title)
    whole_epochs(axes)
    share_legend(figure, axes[0])
    sign(figure, f"mean over the ten tasks and over runs\n{source}")
    return figure, table
