"""Changes of the searches that were tried and did not earn their place: their stored runs, beside what they change.

The code of the changes is gone (git keeps it); their rows stay in ``data/runs``. The configuration of such a run names
its change in a field ``candidate`` that no run can be given any more.
"""

import numpy as np
import pandas as pd

from fastls.experiments.reporting.intervals import mean_interval
from fastls.experiments.training.store import Run, RunStore, read_run

DOUBLED = "from twice the last step"  # an option of the module since, kept in the comparison


def read_tried(store: RunStore) -> list[Run]:
    """Every stored run of a change, the same run without it, and FBLS+gain from twice the last step.

    Raises:
        StoreError: a stored file is corrupt.
    """
    stored = [run.config for run in map(read_run, store.root.glob("*FBLS-*.jsonl"))]
    changed = [config for config in stored if "candidate" in config]
    plain = [{name: value for name, value in config.items() if name != "candidate"} for config in changed]
    doubled = [config | {"growth": 2.0} for config in plain if config["method"] == "FBLS"]
    paths = {store.path(f"{config['dataset']}-{config['method']}", config) for config in changed + plain + doubled}
    return [read_run(path) for path in sorted(paths)]


def compare_tried(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a change: final test loss, its ratio to that of what it changes, seed by seed, trials a step, verdict.

    The ratio is a geometric mean with the 95 % t-interval of its logarithm, since some are a hundred times others; the
    lowest comes first. "better" where the interval ends below 1, "worse" where it begins above or a run diverged, else
    "undecided".
    """
    frame = frame.assign(
        change=frame["candidate"].fillna("none").mask(frame["growth"].notna(), DOUBLED),
        search=frame["variant"].str.removesuffix("+doubling"),
    ).rename(columns={"decoder_forward": "decoder forward"})
    means = frame.groupby(["search", "change"])[["trials", "decoder forward", "accepted"]].mean()
    rows = []
    for (search, change), part in frame[frame["final"]].groupby(["search", "change"]):
        losses = part.set_index("seed")["test_loss"]
        row = {"search": search, "change": change, "test loss": losses.mean(), "diverged": int(losses.isna().sum())}
        row |= {"test error": part["test_error"].mean(), "n": len(part)} | means.loc[search, change].to_dict()
        if change != "none":
            plain = frame[frame["final"] & (frame["search"] == search) & (frame["change"] == "none")]
            ratio, low, high = np.exp(mean_interval(np.log(losses / plain.set_index("seed")["test_loss"])))
            verdict = "worse" if row["diverged"] or low > 1 else "better" if high < 1 else "undecided"
            row |= {"ratio": ratio, "low": low, "high": high, "verdict": verdict}
        rows.append(row)
    return pd.DataFrame(rows).sort_values(["search", "ratio"], na_position="first", ignore_index=True)
