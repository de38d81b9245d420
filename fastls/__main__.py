"""The command line: ``python -m fastls --help``."""

import argparse
import os
import sys
from importlib import import_module

# Modules of fastls.datasets, each with SOURCES, HOW_TO_GET, find_source, load_<name> and, where there is a download,
# download_<name>; Cityscapes asks for a registration instead.
DOWNLOADS = ("multimnist", "cifar10", "stsb")
BENCHMARKS = ("multimnist", "cifar10", "cityscapes", "bert")
DATA_SETS = ("multimnist", "cifar10", "cityscapes", "stsb")


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 success, 1 a failure, 2 wrong use, 130 interrupted by Ctrl-C."""
    options = _make_parser().parse_args(arguments)

    from fastls.datasets.common import DataError  # imports from here on, so that --help does not wait for them
    from fastls.experiments.training.store import StoreError
    from fastls.paths import IN_CLONE

    try:
        if not IN_CLONE:
            raise ValueError("commands need a clone of the repository around fastls: run `pip install -e .` in one.")
        return options.command(options)
    except (DataError, StoreError) as error:
        print(f"fastls: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"fastls: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("fastls"):
            raise
        print(f"fastls: this command needs the package {error.name}; install requirements.txt.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastls: interrupted; finished epochs are kept, the same command goes on from there", file=sys.stderr)
        return 130


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fastls", description="Fast line search for multi-task learning.")
    commands = parser.add_subparsers(required=True, metavar="command")

    reproduce = commands.add_parser("reproduce", help="run the notebooks: every figure and table")
    reproduce.add_argument("--profile", default="quick", help="smoke, quick (default), paper or record")
    reproduce.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these notebooks, e.g. 03_multimnist")
    reproduce.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    reproduce.add_argument(
        "--jobs", type=int, metavar="N", help="training runs at once (default: one a core, on a GPU 1)"
    )
    reproduce.add_argument("--scheduler", metavar="ADDRESS", help="train on a running Dask cluster: CONTRIBUTING.md")
    reproduce.set_defaults(command=_reproduce)

    notebooks = commands.add_parser("notebooks", help="execute the committed notebooks again and stamp them")
    notebooks.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these notebooks, e.g. 03_multimnist")
    notebooks.set_defaults(command=_write_notebooks)

    exercises = commands.add_parser("exercises", help="write the notebooks' exercise forms, without solutions")
    exercises.set_defaults(command=_write_exercises)

    bench = commands.add_parser("bench", help="time a step of every method, interleaved, beside the least it can cost")
    bench.add_argument(
        "workload", nargs="?", default="all", choices=(*BENCHMARKS, "growth", "all"), help="default: all"
    )
    bench.add_argument("--size", default="laptop", choices=("tiny", "laptop", "gpu"), help="default: laptop")
    bench.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    bench.add_argument("--tasks", type=int, metavar="T", help="tasks of cifar10 (default 10)")
    bench.add_argument("--record", action="store_true", help="write to figures and data/runs, not to build/bench")
    bench.set_defaults(command=_bench)

    front_page = commands.add_parser("front-page", help="judge the claims and write figures/README.md")
    front_page.set_defaults(command=_write_front_page)

    data = commands.add_parser("data", help="list the data sets, or download one")
    data.set_defaults(command=_list_data)
    download = data.add_subparsers(metavar="download").add_parser("download", help="fetch a data set")
    download.add_argument("name", choices=DOWNLOADS)
    download.set_defaults(command=_download)

    env = commands.add_parser("env", help="compare the installed packages with requirements.txt")
    env.set_defaults(command=_show_environment)
    return parser


def _reproduce(options: argparse.Namespace) -> int:
    from fastls.environment import SCHEDULER
    from fastls.experiments.reproduce import reproduce

    if options.scheduler:
        os.environ[SCHEDULER] = options.scheduler  # the kernels of the notebooks inherit it
    return reproduce(options.profile, options.only, options.device, options.jobs)


def _write_notebooks(options: argparse.Namespace) -> int:
    from fastls.experiments.reproduce import write_notebooks

    return write_notebooks(options.only)


def _write_exercises(options: argparse.Namespace) -> int:
    from fastls.paths import ROOT
    from fastls.teaching.exercises import write_exercises

    for path in write_exercises():
        print(path.relative_to(ROOT))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from fastls.environment import resolve_device
    from fastls.experiments.bench import RECORDED, make_timing, write_benchmarks
    from fastls.experiments.studies.growth.growth import make_growth, make_networks
    from fastls.experiments.training.store import RunStore
    from fastls.paths import DATA, FIGURES, ROOT

    if options.record and options.workload != "all":
        raise ValueError(f"--record writes the table of all targets and needs all workloads, found {options.workload}.")
    folder, runs = (FIGURES, DATA / "runs") if options.record else (ROOT / "build", ROOT / "build" / "runs")
    names = BENCHMARKS if options.workload == "all" else tuple({options.workload} - {"growth"})
    if options.workload == "growth" and options.tasks is not None:
        raise ValueError("`tasks` can be chosen for cifar10 alone, found it with growth.")
    device = resolve_device(options.device)
    sources = RECORDED if options.record else {}
    tasks = {"cifar10": options.tasks} if options.workload == "all" else {options.workload: options.tasks}
    timings = {name: make_timing(name, options.size, device, tasks.get(name), sources.get(name)) for name in names}
    growth = make_growth(options.size, device) if options.workload in ("growth", "all") else None
    networks = make_networks(options.size, device) if growth else None
    for text in write_benchmarks(timings, RunStore(runs), folder, growth, networks):
        print(text, end="\n\n", flush=True)
    return 0


def _write_front_page(options: argparse.Namespace) -> int:
    from fastls.experiments.front_page import write_front_page
    from fastls.experiments.gallery import write_gallery
    from fastls.paths import FIGURES, ROOT

    for path in (*write_front_page(), write_gallery(FIGURES)):
        print(path.relative_to(ROOT))
    return 0


def _list_data(options: argparse.Namespace) -> int:
    from fastls.datasets.common import DataError

    damaged = False
    for name in DATA_SETS:
        data_set = import_module(f"fastls.datasets.{name}")
        source = data_set.find_source()
        in_use = f"in use: {data_set.SOURCES[source]}"
        if source == list(data_set.SOURCES)[-1]:
            print(f"{name:<12}not found  {in_use}\n{'':<12}{data_set.HOW_TO_GET}")
            continue
        try:
            getattr(data_set, f"load_{name}")(n_train=1, n_test=1, source=source)
            print(f"{name:<12}found      {in_use}")
        except DataError as error:
            print(f"{name:<12}DAMAGED    {error}")
            damaged = True
    return int(damaged)


def _download(options: argparse.Namespace) -> int:
    download = getattr(import_module(f"fastls.datasets.{options.name}"), f"download_{options.name}")
    print(f"{options.name} is in {download()}")
    return 0


def _show_environment(options: argparse.Namespace) -> int:
    from fastls import environment

    packages = environment.check_requirements()
    for name, pinned, installed in packages:
        print(f"{name:<14} {pinned:<10} {_compare(pinned, installed)}")
    machine = environment.describe_environment(environment.resolve_device("auto"))
    print(f"Python {machine['python']}, {machine['platform']}, {machine['device']}, {machine['cores']} cores")
    return int(any(installed is None for _, _, installed in packages))


def _compare(pinned: str, installed: str | None) -> str:
    if installed is None:
        return "MISSING"
    # A build for one kind of device, such as 2.12.1+cpu, is the same version.
    return "OK" if installed.split("+")[0] == pinned else f"DIFFERS: {installed} is installed"


if __name__ == "__main__":
    sys.exit(main())
