"""No change of the code moves a key or a claim in silence: which committed runs are read, and what they say.

`golden_keys.json` holds, for each notebook at the profile `record` and for the benchmark, the files of ``data/runs``
that it reads; the name of a file is its label and its key. Here each notebook is executed on stored runs alone, without
saving figures, and the tables that it writes must be the committed ones. Where runs are changed on purpose,
``python tests/test_golden_keys.py`` writes the file again.
"""

import json
import tempfile
from pathlib import Path
from unittest.mock import patch

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest

from fastls.environment import STORED_ONLY
from fastls.experiments import bench
from fastls.experiments.notebook_runner import code_cells, read_script, tags
from fastls.experiments.reporting import style
from fastls.experiments.reproduce import notebook_parameters
from fastls.experiments.studies.growth.growth import make_growth, make_networks
from fastls.experiments.training.store import RunStore
from fastls.paths import DATA, FIGURES, NOTEBOOKS, place

GOLDEN = Path(__file__).with_name("golden_keys.json")
NOTEBOOKS_OF_RUNS = ("03_multimnist", "04_cifar10", "05_cityscapes", "06_bert_timing", "07_beyond_the_paper")
READERS = (*NOTEBOOKS_OF_RUNS, "08_no_learning_rate", "bench")
# Computed on the spot, in seconds and from no run: kept short here.
SHORTER = {"07_beyond_the_paper": {"chain_points": 5, "toy_steps": 20}}
NOT_FROM_RUNS = {"ours-beyond-second-order.csv"}


def read_with(reader: str, folder: Path) -> set[str]:
    """Names of the runs that a notebook, or the benchmark, asks the store for; its tables are written to `folder`."""
    asked = set()

    def path(store: RunStore, label: str, config: dict) -> Path:
        asked.add(ask(store, label, config).name)
        return ask(store, label, config)

    ask = RunStore.path
    with (
        patch.object(RunStore, "path", path),
        patch.object(style, "show_figure", lambda figure, *_: plt.close(figure)),
        patch.dict("os.environ", {STORED_ONLY: "1"}),
        matplotlib.rc_context({"backend": "agg"}),
    ):
        if reader == "bench":
            _benchmark(folder)
        else:
            _execute(reader, folder)
    return asked


def _execute(notebook: str, folder: Path) -> None:
    script = NOTEBOOKS / f"{notebook}.py"
    common = {"device": "cpu", "jobs": 1, "runs_dir": str(DATA / "runs"), "figures_dir": str(folder)}
    parameters = notebook_parameters(script, "record", common) | SHORTER.get(notebook, {})
    names = {"__name__": notebook}
    for cell in code_cells(read_script(script)):
        exec(compile(cell.source, f"{notebook}.py", "exec"), names)
        if "parameters" in tags(cell):
            names.update(parameters)


def _benchmark(folder: Path) -> None:
    timings = {name: bench.make_timing(name, "laptop", "cpu", source=source) for name, source in bench.RECORDED.items()}
    if not bench.find_spec("torchjd"):
        pytest.skip(
            "the committed benchmark times TorchJD too: runs where requirements.txt is installed, as in `make test`"
        )
    growth, networks = make_growth("laptop", "cpu"), make_networks("laptop", "cpu")
    list(bench.write_benchmarks(timings, RunStore(DATA / "runs"), folder, growth, networks))


@pytest.fixture(scope="module")
def golden() -> dict[str, list[str]]:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("reader", READERS)
def test_the_same_runs_are_read_and_say_the_same(reader, golden, tmp_path):
    assert sorted(read_with(reader, tmp_path)) == golden[reader]
    written = {path.name for path in tmp_path.rglob("*.csv")} - NOT_FROM_RUNS
    assert written  # the rows behind the claims among them
    for name in written:
        drawn, committed = (pd.read_csv(place(folder, name)) for folder in (tmp_path, FIGURES))
        pd.testing.assert_frame_equal(drawn, committed, rtol=1e-9)


def test_every_committed_run_is_read_by_someone(golden):
    committed = {path.name for path in (DATA / "runs").glob("*.jsonl")}
    assert committed == {name for names in golden.values() for name in names}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        keys = {reader: sorted(read_with(reader, Path(folder))) for reader in READERS}
    read = {name for names in keys.values() for name in names}
    waiting = sorted(path.name for path in (DATA / "runs").glob("*.jsonl") if path.name not in read)
    keys |= {"not drawn yet": waiting} if waiting else {}
    GOLDEN.write_text(json.dumps(keys, indent=1) + "\n", encoding="utf-8")
