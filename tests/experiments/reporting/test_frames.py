"""Rows to frames, and the line of provenance."""

import pytest
from synthetic import HEADER, beta_runs, constant_step_runs, make_run, timing_run

from fastls.experiments.reporting.frames import (
    METRICS,
    MixedDataError,
    find_best_step,
    label_constant_steps,
    label_searches,
    provenance,
    to_frame,
    variant,
)
from fastls.experiments.training.store import Run
from fastls.experiments.training.sweeps import SEARCH


def test_metrics_are_means_over_the_tasks():
    last = to_frame([make_run("SGD", 0.1, 0, final_loss=0.5)]).query("final").iloc[0]
    assert [last[metric] for metric in METRICS] == pytest.approx([0.5, 0.5, 0.05, 0.05])


OPTIONS = [
    {},
    {"start": "previous"},
    {"start": "previous", "growth": 2.0},
    {"start": "previous", "growth": 1.5},
    {"start": "previous", "match_gain": True},
    {"match_gain": True},
    {"start": "previous", "match_gain": True, "growth": 2.0},
    {"start": "previous", "match_gain": True, "growth": 1.5},
    {"order": "in turn"},
    {"order": "in turn", "decay_every": 3},
    {"decay_every": 3},
    {"gamma": 0.8},
    {"floor": 1e-8},
    {"form": 7},
]


def test_no_two_searches_share_a_name():
    """Any growth was "doubling", and a start or an order had no name. Only stored runs have a growth."""
    configs = [make_run("FBLS", 1.0, 0, 0.5, **SEARCH).config | options for options in OPTIONS]
    names = [variant(config) for config in configs]
    assert len(set(names)) == len(OPTIONS), names
    assert names[0] == "FBLS" and names[4] == "FBLS+gain" and names[6] == "FBLS+gain+growth 2.0"


def test_a_decaying_bound_makes_another_variant():
    assert set(to_frame(constant_step_runs())["variant"]) == {"FBLS", "FBLS+decay", "SGD", "EqualWeight"}


def test_the_bound_of_an_epoch_does_not_hide_the_configured_rate():
    run = make_run("FBLS", 1.0, 0, 0.5, decay_every=1)
    run.rows[-1]["lr"] = 0.25
    last = to_frame([run]).query("final").iloc[0]
    assert (last["lr"], last["bound"]) == (1.0, 0.25)


def test_a_diverged_run_ends_without_metrics():
    last = to_frame([make_run("SGD", 0.1, 0, 0.5, diverged=True)]).query("final").iloc[0]
    assert last["diverged"] and last[list(METRICS)].isna().all()


def test_provenance_names_data_sizes_epochs_and_device():
    line = provenance(constant_step_runs())
    for part in (HEADER["data"]["description"], "512 training", "metrics on 128", "128 test", "3 epochs", "cpu"):
        assert part in line


def test_provenance_of_a_timing_names_the_machine():
    line = provenance([timing_run(dict.fromkeys(("EqualWeight", "SGD", "BLS", "MGDA-UB", "FBLS"), 1.0))])
    assert "4 interleaved epochs" in line and "a processor" in line and "2 threads" in line


def test_provenance_names_a_batch_that_is_not_the_papers_and_options():
    usual = provenance([make_run("SGD", 0.1, 0, 0.5)])
    assert "batches" not in usual
    run = make_run(
        "SGD", 0.1, 0, 0.5, batch_size=64, data_options=(("augment", True),), model_options=(("stem", "small"),)
    )
    assert provenance([run]).endswith(" · batches of 64 · augment: True · stem: small · cpu")


def test_provenance_of_single_steps_names_their_batch():
    config = {"rounds": 3, "batch_size": 256, "device": "cpu"}
    line = provenance([Run(HEADER | {"config": config}, ())])
    assert "3 interleaved steps a method · batches of 256 · a processor" in line and "images" not in line


@pytest.mark.parametrize("what", ["data", "device"])
def test_runs_on_other_data_or_devices_do_not_share_a_figure(what):
    run = make_run("SGD", 0.1, 0, 0.5)
    data = HEADER["data"] | ({"fingerprint": "0" * 16} if what == "data" else {})
    config = run.config | ({"device": "cuda"} if what == "device" else {})
    other = Run(run.header | {"data": data, "config": config}, run.rows)
    with pytest.raises(MixedDataError, match=f"share their {what}"):
        provenance([run, other])


def test_the_best_and_the_smallest_step_are_labelled():
    frame, lines = label_constant_steps(to_frame(constant_step_runs(sgd=(0.9, 0.4))))
    assert list(lines) == ["SGD 0.1 (best)", "SGD 0.01 (smallest)", "EqualWeight 0.1 (best)"]
    assert set(frame["label"]) == set(lines)
    _, lines = label_constant_steps(to_frame(constant_step_runs(sgd=(0.4, 0.9))))
    assert list(lines) == ["SGD 0.01 (best)", "EqualWeight 0.01 (best)"]


def test_a_step_that_diverged_on_a_seed_is_not_the_best():
    runs = [make_run("SGD", 0.01, seed, 0.9) for seed in (0, 1)] + [make_run("SGD", 0.1, 0, 0.2)]
    frame = to_frame([*runs, make_run("SGD", 0.1, 1, 0.2, diverged=True)])
    assert find_best_step(frame[frame["final"]], "SGD") == 0.01


def test_a_step_with_fewer_seeds_is_not_the_best():
    runs = [make_run("SGD", 0.01, seed, 0.9) for seed in (0, 1)] + [make_run("SGD", 0.1, 0, 0.2)]
    frame = to_frame(runs)
    assert find_best_step(frame[frame["final"]], "SGD") == 0.01
    assert list(label_constant_steps(frame)[1]) == ["SGD 0.01 (best)"]


def test_a_rival_that_diverged_at_every_step_is_labelled_so():
    """There is no best step then; looking for it once raised."""
    runs = [make_run("SGD", lr, 0, 0.9, diverged=True) for lr in (0.01, 0.1)]
    frame, lines = label_constant_steps(to_frame(runs))
    assert list(lines) == ["SGD 0.01 (every step diverged)"] and set(frame["lr"]) == {0.01}
    assert find_best_step(frame[frame["final"]], "SGD") is None


def test_all_searches_and_constant_steps_of_a_frame_are_labelled():
    runs = [*constant_step_runs(), make_run("BLS", 1.0, 0, 0.7, **SEARCH), make_run("MGDA-UB", 0.1, 0, 0.6)]
    frame, lines = label_searches(to_frame(runs))
    assert list(lines) == ["BLS", "FBLS", "FBLS+decay"] and set(frame["label"]) == set(lines)
    _, lines = label_constant_steps(to_frame(runs))
    assert lines["MGDA-UB 0.1 (best)"] == "MGDA-UB"


def test_searches_are_labelled_with_their_beta():
    frame, lines = label_searches(to_frame(constant_step_runs()), to_frame(beta_runs()), also={"BLS": 0.4, "FBLS": 0.1})
    assert list(lines) == ["FBLS", "FBLS+decay", "BLS, β = 0.4", "FBLS, β = 0.1"]
    assert set(frame[frame["label"] == "BLS, β = 0.4"]["beta"]) == {0.4}
