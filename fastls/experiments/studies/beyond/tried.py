"""Changes of the searches that were tried and not kept: stored runs of each change, beside the unchanged search.

The code of the changes was removed (git keeps it). Their rows stay in ``data/runs``; new runs of them cannot be made.
Four kinds of configuration mark a change: a field ``candidate``, the method "BlockFBLS", a growth of 2, and "AdamFBLS"
without the bound on its step.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fastls.experiments.reporting.frames import to_frame
from fastls.experiments.reporting.intervals import ratio_interval
from fastls.experiments.training.store import Run, RunStore, read_run
from fastls.experiments.training.sweeps import GAIN

BLOCK, ADAM = "BlockFBLS", "AdamFBLS"  # with `GAIN`, the searches that were changed
DOUBLED, PER_BLOCK, IN_METRIC = "from twice the last step", "an η per block", "an η per block, metric of RMSProp"
UNBOUNDED = "no bound, from 1.1 times the last step"
PLAIN_GAIN = {"method": "FBLS", "lr": 1000.0, "direction": "mgda", "beta": 0.3, "gamma": 0.5, "floor": 1e-10, "form": 6}
PLAIN_GAIN |= {"start": "previous", "match_gain": True}
SETTING = ("dataset", "source", "n_train", "n_test", "batch_size", "device", "data_options", "model_options")


def find_changes(config: dict) -> Iterator[tuple[str, str, dict]]:
    """The changes in a stored configuration: (search, change, configuration of the search without the change)."""
    if "candidate" in config:
        plain = {name: value for name, value in config.items() if name != "candidate"}
        yield BLOCK if config["method"] == "BlockFBLS" else GAIN, config["candidate"], plain
        return
    if config["method"] == ADAM and not config.get("bounded"):
        yield ADAM, UNBOUNDED, config | {"bounded": True}
        return
    plain = {name: config[name] for name in (*SETTING, "epochs", "seed") if name in config} | PLAIN_GAIN
    if config["method"] == "BlockFBLS":
        yield GAIN, IN_METRIC if "preconditioner" in config else PER_BLOCK, plain
    elif config.get("growth") == 2.0:
        yield GAIN, DOUBLED, plain


def read_tried(store: RunStore, *searches: str) -> list[tuple[str, str, Run, Run]]:
    """(search, change, its run, the run without it) for every stored run of a change of these searches.

    Raises:
        StoreError: a stored file is corrupt.
        FileNotFoundError: the run without a change is not stored.
    """
    return [
        (search, change, run, read_run(store.path(f"{plain['dataset']}-{plain['method']}", plain)))
        for run in map(read_run, sorted(store.root.glob("*FBLS-*.jsonl")))
        for search, change, plain in find_changes(run.config)
        if search in searches
    ]


def compare_tried(tried: list[tuple[str, str, Run, Run]]) -> pd.DataFrame:
    """One row per data set, size and change: final test loss, ratio to the loss without the change, trials, verdict.

    The ratio is a geometric mean over seeds with its 95 % t-interval, since some ratios are a hundred times others. The
    lowest ratio comes first. "better" if the interval ends below 1, "worse" if it begins above 1 or a run diverged,
    else "undecided".
    """
    pairs = pd.DataFrame(
        [
            {"dataset": run.config["dataset"], "images": run.config["n_train"], "epochs": run.config["epochs"]}
            | {"search": search, "change": change, "with": _end(run), "without": _end(plain)}
            for search, change, run, plain in tried
        ]
    )
    rows = []
    for key, part in pairs.groupby(["dataset", "images", "epochs", "search", "change"], sort=False):
        ends, before = pd.DataFrame(list(part["with"])), pd.DataFrame(list(part["without"]))
        diverged = int(ends["test_loss"].isna().sum())
        ratio, low, high = ratio_interval(ends["test_loss"] / before["test_loss"])
        verdict = "worse" if diverged or low > 1 else "better" if high < 1 else "undecided"
        row = dict(zip(("data set", "images", "epochs", "search", "change"), key, strict=True))
        row |= {"test loss": ends["test_loss"].mean(), "without": before["test_loss"].mean()}
        row |= {"ratio": ratio, "low": low, "high": high, "n": len(part), "diverged": diverged}
        rows.append(row | {"trials": ends["trials"].mean(), "verdict": verdict})
    return pd.DataFrame(rows).sort_values(["data set", "images", "search", "ratio"], ignore_index=True)


def _end(run: Run) -> dict:
    """Test loss in the last epoch, mean over tasks, NaN if the run diverged; and trials per step, over all epochs."""
    frame = to_frame([run])
    return {"test_loss": frame["test_loss"].iloc[-1], "trials": frame.get("trials", pd.Series([np.nan])).mean()}
