"""The numbers behind claims 3, 4 and 5 and tables 1 to 3, computed again from the files of ``data/runs``.

Nothing here uses `fastls`: what a reader does with ten lines of pandas must give what the committed tables say.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

approx = partial(pytest.approx, rel=1e-5)  # the tables have six digits

ROOT = Path(__file__).parents[1]
STEPS = [0.001, 0.001931, 0.003728, 0.007197, 0.01389, 0.02683, 0.05179, 0.1]


def read(pattern: str) -> list[tuple[dict, pd.DataFrame]]:
    """Configuration and rows of every stored run whose file matches."""
    found = []
    for path in sorted((ROOT / "data" / "runs").glob(pattern)):
        header, *rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        found.append((header["config"], pd.DataFrame(rows)))
    return found


@pytest.fixture(scope="module")
def claims() -> pd.DataFrame:
    return pd.read_csv(ROOT / "figures" / "claims" / "claims-multimnist.csv", dtype={"claim": str})


@pytest.fixture(scope="module")
def ends() -> pd.DataFrame:
    """A row a training of MultiMNIST: the mean of the last five epochs and of both tasks."""
    rows = []
    for config, epochs in read("multimnist-*.jsonl"):
        if config.get("source") == "mnist" and config.get("n_train") == 60_000 and len(epochs) in (20, 100):
            last = epochs.tail(5).mean(numeric_only=True)
            means = {
                f"{split}_{what}": (last[f"{split}_{what}_left"] + last[f"{split}_{what}_right"]) / 2
                for split in ("train", "test")
                for what in ("loss", "error")
            }
            name = config["method"] + ("+decay" if config.get("decay_every") else "")
            plain = not {"match_gain", "start", "preconditioner"} & set(config)
            plain &= config.get("direction") in (None, "mgda")
            rows.append(config | means | {"name": name, "plain": plain, "share": last.get("share_at_bound")})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("metric", ["train_loss", "test_loss", "train_error", "test_error"])
@pytest.mark.parametrize("method", ["FBLS", "FBLS+decay"])
def test_claim_3(claims, ends, method, metric):
    long = ends[(ends["epochs"] == 100) & ends["plain"]]
    ours = long[(long["name"] == method) & (long["beta"] == 0.1)][metric]
    sgd = long[(long["name"] == "SGD") & long["lr"].isin(STEPS)].groupby("lr")[metric].agg(["mean", "count"])
    best = sgd[sgd["count"] == 5]["mean"].min()
    row = claims.query("claim == '3' and method == @method and metric == @metric and votes").squeeze()
    assert row["n"] == len(ours) == 5
    assert [row["ours"], row["theirs"]] == approx([ours.mean(), best])
    assert row["difference"] == approx(ours.mean() - best, abs=1e-5 * best)


@pytest.mark.parametrize("metric", ["train_loss", "test_loss", "train_error", "test_error"])
@pytest.mark.parametrize(("epochs", "betas"), [(100, [0.1]), (20, [0.1, 0.2, 0.3, 0.4])])
def test_claim_4(claims, ends, metric, epochs, betas):
    """None votes: the claim is about the mean over four β, and the runs of the paper's length have one."""
    some = ends[(ends["epochs"] == epochs) & ends["plain"] & ends["beta"].isin(betas)]
    means = some[some["name"].isin(["FBLS", "BLS"])].groupby("name")[metric].mean()
    rows = claims.query("claim == '4a' and metric == @metric")
    row = rows[rows["note"].str.endswith(f" {epochs} epochs")].squeeze()
    assert not row["votes"] and [row["ours"], row["theirs"]] == approx([means["FBLS"], means["BLS"]])


def test_claim_5(claims, ends):
    long = ends[(ends["epochs"] == 100) & ends["plain"] & (ends["name"] == "FBLS")]
    expected = long.groupby("beta")["share"].mean()
    rows = claims[claims["claim"] == "5"]
    assert list(rows["ours"]) == approx(list(expected))


TABLES = {
    "table-1-multimnist": "multimnist-timing-*.jsonl",
    "table-1-cifar10": "cifar10-timing-*.jsonl",
    "table-2-cityscapes": "cityscapes-timing-*.jsonl",
    "table-3-bert": "stsb-timing-*.jsonl",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_times(name):
    """Some stored timing gives the whole column of the table; a data set has one for each table and benchmark."""
    table = pd.read_csv(ROOT / "figures" / f"{name}.csv").set_index("method")
    computed = []
    for _, rows in read(TABLES[name]):
        seconds = rows.pivot(index="round", columns="method", values="seconds")
        if set(table.index) <= set(seconds):
            ratios = np.log(seconds.div(seconds["SGD"], axis=0)).mean()
            computed.append([np.exp(ratios[method]) for method in table.index])
    assert any(np.allclose(ratios, table["ours / SGD"], rtol=1e-5) for ratios in computed)
