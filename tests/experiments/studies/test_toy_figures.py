"""Figures of the toy problems draw the rows that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fastls.algorithms.line_search import Backtracking
from fastls.experiments.studies.toy import figures as toy_figures
from fastls.experiments.studies.toy import toy
from fastls.experiments.studies.toy.rates import local_rates

PLANE = ((-3.0, 3.0), (-4.0, 4.0))


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def drawn(panel) -> dict[str, np.ndarray]:
    """Label -> points of every labelled line of a panel."""
    return {line.get_label(): line.get_xydata() for line in panel.lines if not line.get_label().startswith("_")}


def test_problem_draws_sample_and_front():
    problem = toy.two_quadratics()
    sample = np.array([[1.0, 1.0], [0.5, 2.0], [2.0, 2.0], [1e3, 1e3]])
    on_front = np.array([True, True, False, False])
    figure, front = toy_figures.draw_problem(problem, sample, on_front, *PLANE, "where from")
    lines = drawn(figure.axes[1])
    assert figure.get_supxlabel() == "where from"
    assert lines["not dominated within the sample"].tolist() == sample[:2].tolist()
    assert lines["front, closed form"] == pytest.approx(front.to_numpy())
    assert front.iloc[0, 0] == pytest.approx(0) and front.iloc[-1, 1] == pytest.approx(0)


def test_trajectories_have_a_panel_a_method_and_direction_and_count_how_runs_ended():
    problem = toy.two_quadratics()
    frame = pd.concat(
        toy.follow_all(problem, toy.same_options(["BLS", "FBLS"], direction=direction), toy.STARTS[:2], 10).assign(
            direction=direction
        )
        for direction in ("mean", "edm")
    )
    figure, ends = toy_figures.draw_trajectories(problem, frame, *PLANE, "where from")
    assert len(figure.axes) == 4 and figure.get_supxlabel() == "where from"
    assert (ends.sum(axis=1) == 2).all() and ends.loc[("BLS", "mean"), "refused"] == 2
    run = frame[(frame["method"] == "FBLS") & (frame["direction"] == "edm") & (frame["start"] == 1)]
    paths = [line.get_xydata() for line in figure.axes[3].lines]
    assert any(path.shape == (len(run), 2) and np.allclose(path, run[toy.THETA]) for path in paths)


def test_convergence_draws_gap_and_distance_against_three_prices():
    problem = toy.two_quadratics()
    frame = toy.follow_all(problem, toy.same_options(["SGD", "FBLS"]), toy.STARTS[:1], 10)
    frame["distance"] = toy.distance_to_pareto_set(problem, toy.get_theta(frame)).numpy()
    figure, table = toy_figures.draw_convergence(frame, "")
    run = table[table["label"] == "FBLS"]
    for panel, x, y in zip(
        figure.axes, ["step", "encoder", "decoder"] * 2, ["gap"] * 3 + ["distance"] * 3, strict=True
    ):
        assert drawn(panel)["FBLS"] == pytest.approx(run[[x, y]].to_numpy())


def swept(**values):
    """A table of `sweep` with two labels, the second of which misses a start at the last value."""
    (columns,) = values.values()
    rows = [
        {"value": value, "label": label, "arrived": 2 - (label == "FBLS" and value == columns[-1]), "starts": 2}
        | {"steps": 10 * value, "encoder passes": 20 * value, "loss rose": 0.5}
        for value in columns
        for label in ("BLS", "FBLS")
    ]
    return pd.DataFrame(rows)


def test_search_parameters_draw_medians_and_mark_what_did_not_arrive():
    along = toy.follow_all(toy.two_quadratics(), toy.same_options(["BLS", "FBLS"]), toy.STARTS[:1], 6)
    figure, table = toy_figures.draw_search_parameters(along, {"β": swept(b=[0.1, 0.3]), "γ": swept(c=[0.2, 4.0])}, "")
    assert list(table["parameter"].unique()) == ["β", "γ"]
    top = figure.axes[1]
    assert drawn(top)["FBLS"] == pytest.approx(np.array([[0.1, 1.0], [0.3, 3.0]]))
    crosses = [line.get_xdata().tolist() for line in top.lines if line.get_marker() == "x"]
    assert crosses == [[], [0.3]]
    assert [panel.get_xscale() for panel in figure.axes[1:3]] == ["linear", "log"]
    assert drawn(figure.axes[3])["BLS"][:, 1] == pytest.approx(along[along["label"] == "BLS"]["trials"].iloc[1:])


def test_gain_draws_the_computed_band_and_the_factors():
    rates = pd.concat(local_rates([0.2, 0.5, 0.8], ratio=ratio).assign(ratio=ratio) for ratio in (0.1, 1.0))
    figure, table = toy_figures.draw_gain(swept(s=[1.0, 2.0]), (1.3, 2.5), swept(r=[0.5, 1.0]), rates, "")
    band = figure.axes[0].patches[0]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((1.3, 2.5))
    assert drawn(figure.axes[3])["$σ_2/σ_1$ = 0.1"][:, 1] == pytest.approx(rates["factor"].abs()[:3])
    assert list(table["swept"].unique()) == ["scale", "ratio"]


def test_searches_draw_the_cost_at_every_price():
    searches = {"Backtracking": Backtracking(), "Backtracking, γ = 0.1": Backtracking(gamma=0.1)}
    runs = {f"{m}, {name}": (m, {"line_search": s}) for m in ("BLS", "FBLS") for name, s in searches.items()}
    frame = toy.follow_all(toy.two_quadratics(), runs, toy.STARTS[:1], 100)
    frame["search"] = frame["label"].str.split(", ", n=1).str[1]
    table = toy.summarize(frame)
    table.index = pd.MultiIndex.from_tuples([label.split(", ", 1) for label in table.index])
    figure, costs = toy_figures.draw_searches(frame, table, "")
    assert len(figure.axes) == 8
    row = table.loc[("FBLS", "Backtracking")]
    assert costs.loc[("FBLS", "Backtracking"), 1.0] == pytest.approx(row["encoder passes"] + row["decoder passes"] / 2)
    assert drawn(figure.axes[7])["Backtracking"][:, 1] == pytest.approx(costs.loc[("FBLS", "Backtracking")])


def test_nonconvex_draws_paths_in_both_planes_and_returns_the_ends():
    pair = toy.nonconvex_pair()
    frame = toy.follow_all(pair, toy.same_options(["EqualWeight", "BLS"]), [(0.4, -0.6)], 15)
    figure, ends = toy_figures.draw_nonconvex(pair, frame, *PLANE, "")
    run = frame[frame["label"] == "BLS"]
    paths = [line.get_xydata() for line in figure.axes[1].lines]
    assert any(path.shape == (len(run), 2) and np.allclose(path, run[["loss_1", "loss_2"]]) for path in paths)
    assert ends.loc[("BLS", 0), "step"] == run["step"].max()
