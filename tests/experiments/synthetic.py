"""Runs with made-up rows, for the tests of frames, figures and tables."""

from fastls.experiments.measuring.timing import METHODS
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.store import Run
from fastls.experiments.training.sweeps import SEARCH

HEADER = {
    "key": "0123456789abcdef",
    "data": {"source": "digits", "description": "scikit-learn digits (stand-in for MNIST)", "fingerprint": "f" * 16},
    "environment": {"device": "a processor", "threads": 2},
}


def make_run(method, lr, seed, final_loss, epochs=3, n_train=512, share=1.0, diverged=False, **options) -> Run:
    """Both tasks fall linearly to `final_loss` (right: 0.1 above left) and errors to a tenth of it."""
    options = ({"direction": None} if method == "EqualWeight" else {}) | options
    config = RunConfig("multimnist", "digits", n_train, 128, method, lr, epochs, seed, **options)
    rows = []
    for epoch in range(1, epochs + 1):
        loss = final_loss + (epochs - epoch)
        row = {"epoch": epoch, "diverged": False, "lr": lr, "share_at_bound": share, "trials": 1.0, "gain_median": 4.0}
        row |= {"accepted": 1.0, "decoder_forward": 4.0}
        row |= {"step_median": lr, "step_p05": lr / 2, "step_p95": lr}
        for split in ("train", "test"):
            for task, shift in (("left", -0.05), ("right", 0.05)):
                row |= {f"{split}_loss_{task}": loss + shift, f"{split}_error_{task}": (loss + shift) / 10}
        rows.append(row)
    if diverged:
        rows[-1] = {"epoch": epochs, "diverged": True}
    return Run(HEADER | {"config": config.identity}, tuple(rows))


def constant_step_runs(fbls=0.5, sgd=(0.9, 0.4), seeds=2) -> list[Run]:
    """FBLS, FBLS+decay, and SGD and EqualWeight at two steps; seeds differ by 0.01."""
    runs = []
    for seed in range(seeds):
        noise = 0.01 * seed
        runs.append(make_run("FBLS", 1.0, seed, fbls + noise, **SEARCH))
        runs.append(make_run("FBLS", 1.0, seed, fbls - 0.05 + noise, decay_every=1, **SEARCH))
        for method in ("SGD", "EqualWeight"):
            runs += [make_run(method, lr, seed, loss + noise) for lr, loss in zip((0.01, 0.1), sgd, strict=True)]
    return runs


def beta_runs(bls=0.8, fbls=0.5, seeds=2, betas=(0.1, 0.4)) -> list[Run]:
    """BLS and FBLS at each β."""
    return [
        make_run(method, 1.0, seed, loss + 0.01 * seed + 0.1 * beta, **(SEARCH | {"beta": beta}))
        for seed in range(seeds)
        for beta in betas
        for method, loss in (("BLS", bls), ("FBLS", fbls))
    ]


def timing_run(seconds: dict[str, float], rounds=4) -> Run:
    """Every method at its seconds, the machine slower by a tenth each round."""
    rows = [
        {"round": turn, "method": method, "seconds": seconds[method] * (1 + 0.1 * turn), "steps": 2, "trials": 0.0}
        | {"encoder_forward": 1.0, "encoder_backward": 1.0, "decoder_forward": 2.0, "decoder_backward": 2.0}
        for turn in range(rounds)
        for method in METHODS
    ]
    config = {"dataset": "multimnist", "n_train": 512, "rounds": rounds, "device": "cpu"}
    return Run(HEADER | {"config": config}, tuple(rows))


def without_seconds(run: Run) -> list[dict]:
    """The rows, but for what differs from time to time."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in run.rows]
