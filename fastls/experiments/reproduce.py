"""Run every notebook at one profile; check its parameters before, and the files that it writes after."""

import os
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

from fastls.environment import STORED_ONLY, process_context, resolve_device, usable_cores
from fastls.experiments.notebook_runner import check_parameters, execute, read_script, stamp
from fastls.experiments.turns import Turns
from fastls.paths import ROOT, place, write_atomically

COMMITTED = ("paper", "record")  # profiles whose figures and runs are committed
RECORD = "record"
# For every kernel, whatever the user's shell says. OpenMP's threads sleep while they wait for each other. Threads that
# wait actively make a step of a small network several times as slow if another program holds a core.
KERNEL_ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONHASHSEED": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True)
class Job:
    """One notebook to run.

    Attributes:
        script: the percent script.
        parameters: what papermill injects.
        executed: where the executed notebook goes, failed or not.
        artefacts: files that it must write.
        lock: the file by which notebooks that run at once take turns.
        quiet: no progress bars; the notebook would store them, and they differ in every run.
    """

    script: Path
    parameters: dict
    executed: Path
    artefacts: tuple[Path, ...]
    lock: Path
    quiet: bool = False

    @property
    def name(self) -> str:
        return self.script.stem


@dataclass(frozen=True)
class Result:
    """The result of a job.

    `problem` is None if there was none. `peak_mb` is that of the largest child process. Linux includes the memory that
    the runner held when it started the child, so for a notebook smaller than the runner `peak_mb` is an upper bound.
    """

    job: Job
    problem: str | None
    seconds: float
    peak_mb: float
    written: int


def reproduce(
    profile: str = "quick", only: Sequence[str] = (), device: str = "auto", jobs: int | None = None, root: Path = ROOT
) -> int:
    """Run the notebooks and print a table of their results.

    Args:
        profile: of ``notebooks/profiles.yaml``.
        only: names of notebooks, such as "03_multimnist"; none for all.
        device: "auto", "cpu" or "cuda".
        jobs: training runs at once within a notebook, which share the cores; None for one run per core, with one thread
            each, or, on a GPU, for one run after the other.
        root: of the repository. Figures and runs of the profiles in `COMMITTED` go to ``figures`` and ``data/runs``,
            all else below ``build/<profile>``.

    Returns:
        0, or 1 if a notebook failed or did not write a file; the other notebooks have run.

    Raises:
        ValueError: unknown profile, notebook, device or parameter, a notebook without parameters cell, ``jobs < 1``.
            Nothing has been run then.
    """
    if jobs is None:
        jobs = usable_cores() if resolve_device(device) == "cpu" else 1
    return _finish(run_jobs(plan(profile, only, device, jobs, root)), root)


def write_notebooks(only: Sequence[str] = (), root: Path = ROOT) -> int:
    """Execute the notebooks at the profile of the committed runs and write each, stamped, beside its script.

    If a notebook fails, the committed one is unchanged; its executed part lies in ``build/record/notebooks``.

    Returns:
        As `reproduce`.
    """
    results = run_jobs(plan(RECORD, only, "cpu", 1, root, quiet=True))
    for result in results:
        if not result.problem:
            job = result.job
            notebook = stamp(nbformat.read(job.executed, as_version=4), job.parameters)
            write_atomically(job.script.with_suffix(".ipynb"), nbformat.writes(notebook) + "\n")
    return _finish(results, root)


def plan(profile: str, only: Sequence[str], device: str, jobs: int, root: Path, quiet: bool = False) -> list[Job]:
    """The jobs, in the order of the notebooks' names, after all checks that are possible before running."""
    if jobs < 1:
        raise ValueError(f"`jobs` must be at least 1, found {jobs}.")
    scripts = find_scripts(root / "notebooks", only)
    artefacts = read_artefacts(root)
    build = Path("build") / profile
    runs_dir, figures_dir = ("data/runs", "figures") if profile in COMMITTED else (build / "runs", build / "figures")
    common = {
        "device": resolve_device(device),
        "jobs": jobs,
        "runs_dir": str(runs_dir),
        "figures_dir": str(figures_dir),
    }
    return [
        Job(
            script,
            notebook_parameters(script, profile, common),
            root / build / "notebooks" / f"{script.stem}.ipynb",
            tuple(
                place(root / figures_dir, name)
                for artefact in artefacts
                if artefact.get("notebook") == script.stem  # others are written by a command
                for name in artefact["files"]
            ),
            root / "build" / "turns.lock",
            quiet,
        )
        for script in scripts
    ]


def find_scripts(folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """The notebooks' scripts ``NN_name.py``, all or those named.

    Raises:
        ValueError: a name without a notebook.
    """
    scripts = {script.stem: script for script in sorted(folder.glob("[0-9][0-9]_*.py"))}
    unknown = [name for name in only if name not in scripts]
    if unknown:
        known = ", ".join(scripts) or "none"
        raise ValueError(f"There is no notebook {', '.join(unknown)}; the notebooks are {known}.")
    return [script for name, script in scripts.items() if not only or name in only]


def notebook_parameters(script: Path, profile: str, common: dict) -> dict:
    """The parameters of a notebook: those of its profile in the ``profiles.yaml`` beside it, and the common ones.

    Raises:
        ValueError: unknown profile, no entry for this notebook, or a parameter that the notebook lacks.
    """
    profiles = yaml.safe_load((script.parent / "profiles.yaml").read_text(encoding="utf-8"))
    if profile not in profiles:
        raise ValueError(f"`profile` must be one of {', '.join(profiles)}, found {profile!r}.")
    if script.stem not in (profiles[profile] or {}):
        raise ValueError(f"profiles.yaml must have {script.stem} below {profile}: {{}} where the defaults will do.")
    parameters = profiles[profile][script.stem] | common
    check_parameters(parameters, read_script(script), script.stem)
    return parameters


def read_artefacts(root: Path) -> list[dict]:
    """The list of artefacts: id, title, what it reproduces, its notebook or command, files, data, claims."""
    return yaml.safe_load((root / "figures" / "artifacts.yaml").read_text(encoding="utf-8"))


def run_jobs(jobs: Sequence[Job]) -> list[Result]:
    """Run the notebooks side by side; while a cell of one times steps, the others wait: `Turns`.

    Two notebooks at once, which keeps memory small, and one on a GPU. If only stored runs are drawn, one per core.
    """
    at_once = usable_cores() if os.environ.get(STORED_ONLY) else min(2, usable_cores())
    if any(job.parameters.get("device") == "cuda" for job in jobs):
        at_once = 1
    labels = [f"[{number}/{len(jobs)}]" for number in range(1, len(jobs) + 1)]
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(_run_in_process, jobs, labels))


def _run_in_process(job: Job, label: str) -> Result:
    """Run a job in its own process, so that its peak memory is measured alone and a crash ends only this job."""
    print(f"{label} {job.name}", file=sys.stderr, flush=True)
    now = (dict(os.environ),)
    with ProcessPoolExecutor(1, process_context(__name__), initializer=_set_environment, initargs=now) as pool:
        try:
            return pool.submit(run_job, job).result()
        except BrokenProcessPool:
            return Result(job, "its process was killed, perhaps for want of memory", 0.0, 0.0, 0)


def _set_environment(variables: dict[str, str]) -> None:
    """A named function, since ``os.environ.update`` cannot be sent to a process."""
    os.environ.update(variables)


def run_job(job: Job) -> Result:
    """Execute one notebook in a child process, and check which files it wrote."""
    progress = {"TQDM_DISABLE": "1"} if job.quiet else {"TQDM_DESC": job.name}  # the bars of two share a line
    os.environ.update(KERNEL_ENVIRONMENT | progress)
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), *([others] if others else [])]
    )  # the kernel imports this fastls
    before = {path: _identity(path) for path in job.artefacts}
    start = time.perf_counter()
    try:
        with Turns(job.lock) as turns:
            execute(job.script, job.executed, job.parameters, turns.begin)
        problem = None
    except Exception as error:  # whatever a notebook does must not stop the ones after it
        problem = _describe(error)
    missing = [path.name for path in job.artefacts if _identity(path) in (None, before[path])]
    if missing and not problem:
        problem = f"these files of figures/artifacts.yaml were not written, or are empty: {', '.join(missing)}"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return Result(job, problem, time.perf_counter() - start, peak, len(job.artefacts) - len(missing))


def _identity(path: Path) -> tuple[int, int] | None:
    """A value that changes whenever the file is written; None for a file that is missing or empty."""
    if not path.exists() or not path.stat().st_size:
        return None
    return path.stat().st_ino, path.stat().st_mtime_ns


def _describe(error: Exception) -> str:
    """The error in one line; papermill's own message has a page."""
    if hasattr(error, "ename"):
        return f"cell [{error.exec_count}] raised {error.ename}: {error.evalue.splitlines()[0] if error.evalue else ''}"
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def format_results(results: Sequence[Result], root: Path) -> str:
    """The closing table, and a line for each problem."""
    width = max([len("notebook"), *(len(result.job.name) for result in results)])
    lines = [f"{'notebook':<{width}}  status  seconds  peak MB  artefacts written"]
    for result in results:
        status = "FAILED" if result.problem else "ok"
        count = f"{result.written} of {len(result.job.artefacts)} files"
        where = f" in {result.job.parameters['figures_dir']}" if result.written else ""
        numbers = f"{status:<6}  {result.seconds:7.1f}  {result.peak_mb:7.0f}"
        lines.append(f"{result.job.name:<{width}}  {numbers}  {count}{where}")
    for result in results:
        if result.problem:
            evidence = result.job.executed.relative_to(root)
            lines.append(f"{result.job.name}: {result.problem} (see {evidence})")
    return "\n".join(lines)


def _finish(results: Sequence[Result], root: Path) -> int:
    # not imported at the top: the process of every notebook would wait for it
    from fastls.experiments.front_page import COUNTS, list_verdicts
    from fastls.experiments.gallery import write_gallery

    print(format_results(results, root))
    for figures in {result.job.parameters["figures_dir"] for result in results}:
        print(f"the paper's claims by the rows of {figures} alone, {COUNTS}:", *list_verdicts(root / figures), sep="\n")
        print(f"results at a glance: {write_gallery(root / figures, root).relative_to(root)}")
    return int(any(result.problem for result in results))
