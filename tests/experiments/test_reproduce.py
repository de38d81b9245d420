"""The runner of notebooks, on tiny ones: strict about parameters and files, and a failure is left as evidence."""

import contextlib
import io
import threading
from pathlib import Path

import nbformat
import pytest
import yaml
from filelock import ReadWriteLock
from notebook_writer import PARAMETERS, write_repository, writes

from fastls.experiments import reproduce as runner
from fastls.experiments.notebook_runner import check_notebook_pair, code_cells, read_script
from fastls.experiments.reporting.tables import read_paper
from fastls.experiments.reproduce import Job, Result, format_results, plan, reproduce, run_job, write_notebooks
from fastls.experiments.turns import Turns, times_steps
from fastls.paths import ROOT


def plan_for(root, profile="smoke", only=(), device="cpu", jobs=1):
    return plan(profile, only, device, jobs, root)


@pytest.fixture
def repository(tmp_path):
    return write_repository(tmp_path, {"01_one": "n", "02_two": "n"}, {"01_one": ["one.txt"]})


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# What is asked for, checked before anything runs


@pytest.mark.parametrize(
    "profile, folders",
    [
        ("smoke", ("build/smoke/runs", "build/smoke/figures")),
        ("quick", ("build/quick/runs", "build/quick/figures")),
        ("paper", ("data/runs", "figures")),
        ("record", ("data/runs", "figures")),
    ],
)
def test_places_by_profile(repository, profile, folders):
    first, _ = plan_for(repository, profile)
    expected = {"n": 2, "device": "cpu", "jobs": 1, "runs_dir": folders[0], "figures_dir": folders[1]}
    assert first.parameters == expected
    assert first.artefacts == (repository / folders[1] / "one.txt",)
    assert first.executed == repository / "build" / profile / "notebooks" / "01_one.ipynb"


def test_only(repository):
    assert [job.name for job in plan_for(repository)] == ["01_one", "02_two"]
    assert [job.name for job in plan_for(repository, only=["02_two"])] == ["02_two"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"only": ["02_tow"]}, "no notebook 02_tow; the notebooks are 01_one, 02_two"),
        ({"profile": "fast"}, "`profile` must be one of smoke, quick, paper, record, found 'fast'"),
        ({"jobs": 0}, "`jobs` must be at least 1, found 0"),
        ({"device": "tpu"}, "`device` must be .* found 'tpu'"),
    ],
)
def test_bad_requests(repository, options, message):
    profiles = yaml.safe_load((repository / "notebooks" / "profiles.yaml").read_text())
    ordered = {name: profiles[name] for name in ("smoke", "quick", "paper", "record")}
    (repository / "notebooks" / "profiles.yaml").write_text(yaml.safe_dump(ordered, sort_keys=False))
    with pytest.raises(ValueError, match=message):
        plan_for(repository, **options)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("n = 3", "m = 3", "01_one has no parameter n; its parameters are m, device"),
        (' tags=["parameters"]', "", "01_one must have one cell tagged `parameters`, found 0"),
        ("# %%\nn", PARAMETERS, "01_one must have one cell tagged `parameters`, found 2"),
        ("n = 3", "n = 3 if True else 4", "01_one must hold lines `name = literal` only, found `n = 3 if True else 4`"),
        ("n = 3", "import os", "must hold lines `name = literal` only, found `import os`"),
        ("jobs = 1\n", "", "01_one has no parameter jobs"),
    ],
)
def test_bad_notebooks(repository, old, new, message):
    edit(repository / "notebooks" / "01_one.py", old, new)
    with pytest.raises(ValueError, match=message):
        reproduce("smoke", device="cpu", root=repository)
    assert not (repository / "build").exists()


def test_misspelt_parameter_of_a_profile(repository):
    edit(repository / "notebooks" / "profiles.yaml", "n: 2", "n_trian: 2")
    with pytest.raises(ValueError, match="01_one has no parameter n_trian"):
        plan_for(repository)


def test_profile_without_an_entry(repository):
    profiles = yaml.safe_load((repository / "notebooks" / "profiles.yaml").read_text())
    del profiles["smoke"]["02_two"]
    (repository / "notebooks" / "profiles.yaml").write_text(yaml.safe_dump(profiles))
    with pytest.raises(ValueError, match="must have 02_two below smoke"):
        plan_for(repository)


# What is run


@pytest.mark.parametrize("device, stored, at_once", [("cpu", "", 2), ("cuda", "", 1), ("cpu", "1", 4)])
def test_how_many_notebooks_run_at_once(monkeypatch, device, stored, at_once):
    jobs = [Job(Path(f"{name}.py"), {"device": device}, Path("x"), (), Path("lock")) for name in "abcd"]
    together, running, most, seen = threading.Barrier(at_once, timeout=10), set(), [], []

    def run(job, label):
        running.add(job.name)
        together.wait()  # breaks if fewer run at once
        most.append(len(running))
        together.wait()
        running.discard(job.name)
        seen.append((label, job.name))
        return Result(job, None, 0.0, 0.0, 0)

    monkeypatch.setattr(runner, "_run_in_process", run)
    monkeypatch.setattr(runner, "usable_cores", lambda: 4)
    monkeypatch.setenv(runner.STORED_ONLY, stored)
    assert [result.job.name for result in runner.run_jobs(jobs)] == list("abcd")
    assert sorted(seen) == [("[1/4]", "a"), ("[2/4]", "b"), ("[3/4]", "c"), ("[4/4]", "d")]
    assert set(most) == {at_once}


def test_while_a_notebook_times_steps_nothing_of_the_others_runs(tmp_path):
    code = """import time

def note(kind):
    begin = time.monotonic()
    time.sleep(0.4)
    with open({log!r}, "a") as file:
        print({name!r}, kind, begin, time.monotonic(), file=file)

# %%
note("works")

# %%
timing_rounds = note("times")

# %%
note("works")"""
    log = tmp_path / "log"
    names = ("01_one", "02_two")
    root = write_repository(tmp_path / "root", {name: code.format(log=str(log), name=name) for name in names})
    assert not any(result.problem for result in runner.run_jobs(plan_for(root)))
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len(lines) == 6
    for name, kind, begin, end in lines:
        others = [(float(b), float(e)) for other, _, b, e in lines if other != name]
        assert kind == "works" or all(e <= float(begin) or b >= float(end) for b, e in others)


TIMED = ("Timing(", "TaskScaling(", "Memory(", "time_searches(", "time_defaults(")


def test_the_cells_that_time_steps_are_known():
    """And no others: the notebooks of the theory and of the toys have none."""
    for script in sorted((ROOT / "notebooks").glob("0*.py")):
        for cell in code_cells(read_script(script)):
            timed = any(name in cell.source for name in TIMED) and "execute(store)" in cell.source
            assert times_steps(cell) == timed, cell.source


def test_ctrl_c_comes_up_while_a_notebook_waits_to_be_alone(tmp_path, monkeypatch):
    """The end of the turn once released a lock that was not held, and its error hid the interrupt."""

    def interrupted(lock):
        raise KeyboardInterrupt

    monkeypatch.setattr(ReadWriteLock, "acquire_write", interrupted)
    with pytest.raises(KeyboardInterrupt), Turns(tmp_path / "lock") as turns:
        turns.begin({"cell_type": "code", "source": "Timing(setting, timing_rounds)"})


def test_a_notebook_sees_the_environment_of_the_moment(tmp_path, monkeypatch):
    """Not that of the first notebook that this process ran."""
    code = "import os\nassert os.environ['A_VARIABLE_OF_A_TEST'] == '{}'"
    for value in ("first", "second"):
        monkeypatch.setenv("A_VARIABLE_OF_A_TEST", value)
        root = write_repository(tmp_path / value, {"01_looks": code.format(value)})
        (result,) = runner.run_jobs(plan_for(root))
        assert result.problem is None


@pytest.fixture(scope="module")
def in_process():
    """Without a process for each notebook, which takes seconds to start; the environment is put back afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*runner.KERNEL_ENVIRONMENT, "TQDM_DISABLE", "TQDM_DESC", "PYTHONPATH"):
            patch.setenv(name, "")
        patch.setattr(runner, "run_jobs", lambda jobs: [run_job(job) for job in jobs])
        yield


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Root, exit code and printed lines of `reproduce` where all notebooks fail but the last."""
    notebooks = {
        "01_raises": 'print("before")\n1 / 0',
        "02_all_die": "import os\nos.kill(os.getppid(), 9)",
        "03_works": writes("three.txt"),
    }
    root = write_repository(tmp_path_factory.mktemp("troubled"), notebooks, {"03_works": ["three.txt"]})
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = reproduce("smoke", device="cpu", jobs=1, root=root)
    return root, code, printed.getvalue().splitlines()


def test_the_good_notebook_runs_after_the_bad_ones(outcome):
    root, code, lines = outcome
    assert code == 1
    assert (root / "build/smoke/figures/three.txt").read_text() == "2 cpu 1"
    assert [line.split()[:2] for line in lines[:4]] == [
        ["notebook", "status"],
        ["01_raises", "FAILED"],
        ["02_all_die", "FAILED"],
        ["03_works", "ok"],
    ]
    _, _, seconds, peak, *written = lines[3].split()
    assert float(seconds) > 0 and float(peak) > 20
    assert " ".join(written) == "1 of 1 files in build/smoke/figures"
    assert lines[4:7] + lines[-1:] == [
        "01_raises: cell [3] raised ZeroDivisionError: division by zero (see build/smoke/notebooks/01_raises.ipynb)",
        "02_all_die: its process was killed, perhaps for want of memory (see build/smoke/notebooks/02_all_die.ipynb)",
        "the paper's claims by the rows of build/smoke/figures alone, for / against / undecided:",
        "results at a glance: build/smoke/figures/README.md",
    ]
    claims = [line.split()[1] for line in lines[7:-1]]
    assert claims == [str(number) for number in read_paper()["claims"]]
    assert "[three.txt](three.txt)" in (root / "build/smoke/figures/README.md").read_text()


def test_a_failed_notebook_is_left_as_evidence(outcome):
    notebook = nbformat.read(outcome[0] / "build/smoke/notebooks/01_raises.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.output_type for output in outputs] == ["stream", "error"]
    assert outputs[1].ename == "ZeroDivisionError"
    assert (outcome[0] / "build/smoke/notebooks/02_all_die.ipynb").exists()


@pytest.mark.parametrize("device, jobs, expected", [("cpu", None, 3), ("cpu", 1, 1), ("cuda", None, 1)])
def test_by_default_a_training_runs_on_every_core(repository, monkeypatch, device, jobs, expected):
    """And on a GPU one after the other."""
    planned = []
    monkeypatch.setattr(runner, "usable_cores", lambda: 3)
    monkeypatch.setattr(runner, "resolve_device", lambda device: device)
    monkeypatch.setattr(runner, "run_jobs", lambda jobs: planned.extend(jobs) or [])
    assert reproduce("smoke", device=device, jobs=jobs, root=repository) == 0
    assert [job.parameters["jobs"] for job in planned] == [expected, expected]


def test_threads_of_a_kernel_wait_passively(tmp_path, in_process, monkeypatch):
    """Threads that spin slow a training down manyfold where another program holds a core."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    root = write_repository(tmp_path, {"01_waits": "import os\nassert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'"})
    assert run_job(plan_for(root)[0]).problem is None


def test_missing_files(tmp_path, in_process):
    files = {"01_forgets": ["new.txt", "missing.txt", "old.txt", "empty.txt"]}
    root = write_repository(tmp_path, {"01_forgets": writes("new.txt")}, files)
    figures = root / "build" / "smoke" / "figures"
    figures.mkdir(parents=True)
    (figures / "old.txt").write_text("from an earlier run")
    (figures / "empty.txt").touch()
    result = run_job(plan_for(root)[0])
    assert result.written == 1
    assert result.problem == (
        "these files of figures/artifacts.yaml were not written, or are empty: missing.txt, old.txt, empty.txt"
    )


def test_kernels_import_this_fastls(tmp_path, in_process, monkeypatch):
    """Not a copy that `pip install .` left in the environment, or another clone."""
    (tmp_path / "other" / "fastls").mkdir(parents=True)
    (tmp_path / "other" / "fastls" / "__init__.py").write_text("raise RuntimeError('another fastls')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))
    root = write_repository(tmp_path / "clone", {"01_imports": "import fastls.paths"})
    assert run_job(plan_for(root)[0]).problem is None


def test_killed_kernel_is_reported(tmp_path, in_process):
    root = write_repository(tmp_path, {"01_dies": "import os\nos.kill(os.getpid(), 9)"})
    (job,) = plan_for(root)
    assert run_job(job).problem == "DeadKernelError: Kernel died"
    assert job.executed.exists()


def test_table():
    files = (Path("a"), Path("b"))
    job = Job(Path("/r/notebooks/01_one.py"), {"figures_dir": "figures"}, Path("/r/b/01.ipynb"), files, Path("lock"))
    good, bad = Result(job, None, 1.25, 99.6, 2), Result(job, "cell [1] raised E: e", 0.5, 10.0, 0)
    assert format_results([good, bad], Path("/r")).splitlines() == [
        "notebook  status  seconds  peak MB  artefacts written",
        "01_one    ok          1.2      100  2 of 2 files in figures",
        "01_one    FAILED      0.5       10  0 of 2 files",
        "01_one: cell [1] raised E: e (see b/01.ipynb)",
    ]


# What is committed


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, in_process):
    """A repository with one executed and one failing notebook, the failing one with an .ipynb of old; and its bytes."""
    code = "import matplotlib.pyplot as plt\nprint(n)\nplt.plot([n]);"
    root = write_repository(tmp_path_factory.mktemp("recorded"), {"01_one": code, "02_two": "1 / 0"})
    (root / "notebooks/02_two.ipynb").write_text("as it was")
    assert write_notebooks(root=root) == 1
    return root, (root / "notebooks/01_one.ipynb").read_bytes()


def test_second_write_is_byte_identical(recorded):
    root, first = recorded
    assert write_notebooks(["01_one"], root=root) == 0
    assert (root / "notebooks/01_one.ipynb").read_bytes() == first
    assert b"image/png" in first


def test_failed_notebook_stays_as_it_was(recorded):
    root, _ = recorded
    assert (root / "notebooks/02_two.ipynb").read_text() == "as it was"
    assert "ZeroDivisionError" in (root / "build/record/notebooks/02_two.ipynb").read_text()


def test_stamp_shows_what_was_run(recorded):
    notebook = nbformat.reads(recorded[1].decode(), as_version=4)
    assert notebook.metadata.run.parameters["n"] == 2
    injected = [cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert len(injected) == 1 and "n = 2" in injected[0].source
    assert str(recorded[0]) not in recorded[1].decode()


@pytest.fixture
def pair(recorded, tmp_path):
    """A copy of the executed notebook and its script, to spoil."""
    for name in ("01_one.py", "01_one.ipynb"):
        (tmp_path / name).write_bytes((recorded[0] / "notebooks" / name).read_bytes())
    return tmp_path / "01_one.py", tmp_path / "01_one.ipynb"


def test_pair_is_sound(pair):
    assert check_notebook_pair(*pair) == []


def test_text_may_change(pair):
    edit(pair[0], "# # A notebook", "# # Another notebook")
    assert check_notebook_pair(*pair) == []


def test_code_may_not_change(pair):
    edit(pair[0], "print(n)", "print(n + 1)")
    differ, stale = check_notebook_pair(*pair)
    assert "code cells of 01_one.ipynb differ from 01_one.py" in differ
    assert "was not made by the code of 01_one.py: run `make notebooks`" in stale


def test_synchronised_but_not_run(pair):
    """The .ipynb has the new code and the old outputs, as `jupytext --sync` leaves it."""
    edit(pair[0], "print(n)", "print(n + 1)")
    edit(pair[1], "print(n)", "print(n + 1)")
    (problem,) = check_notebook_pair(*pair)
    assert "was not made by the code" in problem


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda cell: cell.update(execution_count=None), "code cell 2 of 01_one.ipynb was not executed"),
        (lambda cell: cell.outputs.append(nbformat.v4.new_output("error")), "ended with an error"),
        (
            lambda cell: cell.outputs.append(nbformat.v4.new_output("stream", text="in /home/me/data")),
            "holds the absolute path /home/me/data",
        ),
        (
            lambda cell: cell.outputs.append(nbformat.v4.new_output("display_data", {"image/png": "A" * 2_000_001})),
            "more than 2,000,000",
        ),
    ],
)
def test_spoilt_pairs(pair, spoil, message):
    notebook = nbformat.read(pair[1], as_version=4)
    spoil([cell for cell in notebook.cells if cell.cell_type == "code"][2])
    nbformat.write(notebook, pair[1])
    (problem,) = check_notebook_pair(*pair)
    assert message in problem


def test_missing_executed_notebook(pair):
    pair[1].unlink()
    assert check_notebook_pair(*pair) == ["01_one.ipynb is missing: run `make notebooks`"]
