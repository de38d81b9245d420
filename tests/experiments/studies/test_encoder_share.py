"""The encoder's share: what is stored, how it is summarised, judged and drawn. Never its seconds."""

from dataclasses import replace

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from fastls.experiments.reporting.claims import Verdict
from fastls.experiments.studies.bert.encoder_share import (
    METHODS,
    ShareTiming,
    compare_shares,
    draw_shares,
    judge_shares,
)
from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.training import PASSES

SETTING = Setting("stsb", "templates", n_train=8, n_test=4, batch_size=4, model_options=(("width", 64),))
CONFIG = ShareTiming(SETTING, layers=(1, 2), decoder_width=64, decoder_widths=(64, 256), rounds=2, lr=0.001)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    store = RunStore(tmp_path_factory.mktemp("runs"))
    return CONFIG.execute(store), store


def test_every_model_round_and_method_has_a_row(measured):
    rows = pd.DataFrame(measured[0].rows)
    models = [("layers", 1, 64), ("layers", 2, 64), ("decoder_width", 1, 64), ("decoder_width", 1, 256)]
    assert (
        list(rows[["varied", "layers", "decoder_width"]].drop_duplicates().itertuples(index=False, name=None)) == models
    )
    assert len(rows) == len(models) * 2 * len(METHODS)
    assert (rows["seconds"] > 0).all() and (rows[[f"seconds_{name}" for name in PASSES]] > 0).all().all()


def test_passes_are_those_of_the_algorithms(measured):
    rows = pd.DataFrame(measured[0].rows)
    for method, forward, backward in (("SGD", 1, 3), ("FBLS", 1, 1)):
        chosen = rows[rows["method"] == method]
        assert (chosen["encoder_forward"] == forward).all() and (chosen["encoder_backward"] == backward).all()
    bls = rows[rows["method"] == "BLS"]
    assert bls["encoder_forward"].to_numpy() == pytest.approx(1 + bls["trials"])
    assert rows["decoder_forward"].to_numpy() == pytest.approx(3 * (1 + rows["trials"]))


def test_nothing_is_measured_twice_and_the_key_knows_the_models(measured):
    run, store = measured
    assert CONFIG.execute(store) == run
    others = [
        replace(CONFIG, **change) for change in ({"layers": (1,)}, {"decoder_width": 32}, {"rounds": 1}, {"lr": 0.1})
    ]
    assert len({str(config.identity) for config in (CONFIG, *others)}) == 5


def made_up(overhead=0.0) -> Run:
    """A decoder pass costs a tenth of its width; SGD as counted, FBLS and BLS with two trials; all plus overhead."""
    rows = []
    for varied, layers, width in (
        ("layers", 1, 1),
        ("layers", 4, 1),
        ("decoder_width", 1, 1),
        ("decoder_width", 1, 20),
    ):
        cost = {"encoder_forward": layers, "encoder_backward": 2 * layers}
        cost |= {"decoder_forward": 0.1 * width, "decoder_backward": 0.2 * width}
        counts = {"SGD": (1, 3, 3, 3), "BLS": (3, 3, 9, 3), "FBLS": (1, 1, 9, 3)}
        for turn in (1, 2, 3):
            for method in METHODS:
                passes = dict(zip(PASSES, counts[method], strict=True))
                seconds = turn * (overhead + sum(passes[name] * cost[name] for name in PASSES))
                row = {"varied": varied, "layers": layers, "decoder_width": width, "round": turn, "method": method}
                row |= {"seconds": seconds, "trials": 2.0 * (method != "SGD")} | passes
                rows.append(row | {f"seconds_{name}": turn * cost[name] for name in PASSES})
    return Run({}, tuple(rows))


def test_without_overhead_the_prediction_is_exact():
    table = compare_shares(made_up())
    for rival in ("SGD", "BLS"):
        assert list(table[f"FBLS / {rival}"]) == pytest.approx(list(table[f"predicted, {rival}"]))
    assert list(table["share"]) == pytest.approx([3 / 3.9, 12 / 12.9, 3 / 3.9, 3 / 21])
    assert table["FBLS / SGD"][0] == pytest.approx((3 + 0.9 + 0.6) / (7 + 0.3 + 0.6))
    assert list(table["trials of FBLS"]) == [2.0] * 4 and list(table["n"]) == [3] * 4


def test_overhead_parts_the_measured_from_the_predicted():
    table = compare_shares(made_up(overhead=10.0))
    assert (table["FBLS / BLS"] > table["predicted, BLS"]).all()


def test_claim_2_is_judged_either_way():
    table = compare_shares(made_up())
    row = judge_shares(table, "BERT", "SGD")
    assert row.verdict is Verdict.HOLDS and row.difference < 0
    turned = table.assign(share=1 - table["share"])
    assert judge_shares(turned, "BERT", "SGD").verdict is Verdict.FAILS
    wide = table.assign(**{"low, SGD": 0.01, "high, SGD": 9.0})
    assert judge_shares(wide, "BERT", "SGD").verdict is Verdict.UNDECIDED


def test_figure_shows_both_series_and_the_provenance():
    figure, table = draw_shares(compare_shares(made_up()), tasks=3, source="somewhere")
    assert len(table) == 4 and "somewhere" in figure.get_supxlabel()
    for panel, rival in zip(figure.axes, ("SGD", "BLS"), strict=True):
        assert rival in panel.get_title()
        drawn = [set(line.get_ydata()) for line in panel.get_lines()]
        for column in (f"FBLS / {rival}", f"predicted, {rival}"):
            assert any(set(table[column][:2]) == ys for ys in drawn)
    plt.close(figure)
