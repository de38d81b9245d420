"""The figure of balanced errors is tested by the numbers that it draws."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from fastls.experiments.studies.cifar10.imbalance import draw_imbalance


def test_scores_are_means_over_tasks_and_runs():
    plt.switch_backend("agg")
    rows = [
        {
            "label": "FBLS",
            "epoch": epoch,
            "diverged": False,
            "test_error": 0.1 / epoch,
            "test_ten_way_accuracy": seed / 4,
        }
        | {"test_balanced_error_cat": 0.5, "test_balanced_error_dog": 0.3, "train_balanced_error_cat": 0.0}
        for epoch in (1, 2)
        for seed in (1, 2)
    ]
    rows.append({"label": "FBLS", "epoch": 3, "diverged": True})
    figure, table = draw_imbalance(pd.DataFrame(rows), "where from", {"FBLS": "FBLS", "SGD": "SGD"})
    assert table.loc[("FBLS", 2)].tolist() == pytest.approx([0.05, 0.4, 0.375])
    assert [panel.lines[-1].get_ydata()[0] for panel in figure.axes] == [0.1, 0.5, 0.1]
    assert [line.get_label() for line in figure.axes[0].lines] == ["FBLS", 'always "rest"']
    plt.close(figure)
