"""Faults tried on purpose, and what became of them: ``python tests/robustness.py`` writes ``checks/robustness.md``.

Takes some minutes, and the real data sets below ``data``; a set that is not there is left out, and the table says so.
Everything is done to copies in a temporary folder.
"""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch

from fastls.datasets.cifar10 import load_cifar10
from fastls.datasets.cityscapes import load_cityscapes
from fastls.datasets.common import DataError
from fastls.datasets.multimnist import load_multimnist
from fastls.datasets.street_scenes import write_scenes
from fastls.datasets.stsb import load_stsb
from fastls.environment import describe_environment
from fastls.experiments.reporting.tables import to_markdown
from fastls.experiments.training.store import RunStore, StoreError, read_run
from fastls.paths import DATA, FIGURES, ROOT, place, write_atomically

KILLS = 10
NOTEBOOK = "03_multimnist"
CLOCK = ("seconds", "environment", "resumed_on", "digest")  # what two runs of the same configuration may differ in


def main() -> None:
    with TemporaryDirectory(prefix="fastls-robustness-") as folder:
        rows = [
            row for trial in (kill_reproduction, fill_disk, damage_store, damage_data) for row in trial(Path(folder))
        ]
    table = pd.DataFrame(rows, columns=["fault", "tried", "detected or survived", "what happened"])
    machine = describe_environment("cpu")
    text = [
        "# Faults tried, and what became of them",
        "Made by `tests/robustness.py`, on copies; seeds are fixed, moments of the kills are drawn.",
        to_markdown(table),
        f"{machine['device']} · Python {machine['python']} · {machine['platform']}.",
    ]
    write_atomically(place(FIGURES, "robustness.md"), "\n\n".join(text) + "\n")
    print(text[2])


def kill_reproduction(folder: Path) -> Iterator[tuple]:
    """Kill -9 a reproduction, all its processes, at a random moment, then let it finish: the rows must be the same."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    start = time.perf_counter()
    assert _start_reproduction(clone).wait() == 0
    whole = time.perf_counter() - start
    expected = _read_rows(clone)
    moments = random.Random(0)
    killed = survived = damaged = 0
    for _ in range(KILLS):
        shutil.rmtree(clone / "build")
        process = _start_reproduction(clone)
        try:
            process.wait(timeout=moments.uniform(0.2, 0.9) * whole)
        except subprocess.TimeoutExpired:
            _kill_family(process)
            killed += 1
        damaged += _count_damaged(clone)
        survived += _start_reproduction(clone).wait() == 0 and _read_rows(clone) == expected
    yield (
        f"kill -9 of `reproduce --only {NOTEBOOK}` (smoke), then the same command again",
        killed,
        survived - (KILLS - killed),
        f"the rows of all {len(expected)} runs are those of a reproduction without a kill; {damaged} damaged files",
    )


def _start_reproduction(clone: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "fastls", "reproduce", "--profile", "smoke", "--only", NOTEBOOK, "--device", "cpu"]
    quiet = subprocess.DEVNULL
    environment = os.environ | {"PYTHONPATH": str(clone)}
    return subprocess.Popen(command, cwd=clone, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)


def _kill_family(process: subprocess.Popen) -> None:
    """Kill -9 the process and all below it; notebook kernels have sessions of their own."""
    family = [process.pid]
    for pid in family:  # grows as it goes
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
        family += [int(child) for child in found.split()]
    for pid in reversed(family):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _stored(clone: Path) -> list[Path]:
    return sorted((clone / "build" / "smoke" / "runs").glob("*.jsonl"))


def _read_rows(clone: Path) -> dict[str, list]:
    """What training decides, by run; timings have rows of seconds alone and are left out."""
    runs = {path.name: read_run(path) for path in _stored(clone) if "-timing-" not in path.name}
    return {
        name: [{key: value for key, value in row.items() if key not in CLOCK} for row in run.rows]
        for name, run in runs.items()
    }


def _count_damaged(clone: Path) -> int:
    return sum(_error(lambda path=path: read_run(path), StoreError) is not None for path in _stored(clone))


def fill_disk(folder: Path) -> Iterator[tuple]:
    """Writing past a limit on the size of files, set in a process of its own, in place of a full disk."""
    store, config = RunStore(folder / "full"), {"method": "FBLS"}
    path = store.save("set-FBLS", config, {}, [{"epoch": 1}])
    before = path.read_bytes()
    rows = [{"epoch": epoch, "note": "x" * 100} for epoch in range(1000)]
    child = os.fork()
    if not child:
        code = 1
        try:  # whatever happens, the child must not go on with the parent's work
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            named = _error(lambda: store.save("set-FBLS", config, {}, rows), OSError)
            code = 0 if named and path.name in named else 1
        finally:
            os._exit(code)
    detected = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    whole = path.read_bytes() == before and len(list(store.root.iterdir())) == 1
    yield (
        "no room left during a write of a run (a limit on file size)",
        1,
        int(detected and whole),
        (
            f"OSError {'names' if detected else 'does NOT name'} the file; "
            f"{'the old file is whole, and nothing half-written is left' if whole else 'the old file is LOST'}"
        ),
    )


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "with one digit changed": lambda content: _change_digit(content),
    "with 64 bytes overwritten": lambda content: _overwrite(content),
}
PLACES = random.Random(1)


def _change_digit(content: bytes) -> bytes:
    place = PLACES.choice([place for place, byte in enumerate(content) if byte in b"123456"])
    return content[:place] + bytes([content[place] + 1]) + content[place + 1 :]


def _overwrite(content: bytes) -> bytes:
    place = PLACES.randrange(len(content) - 64)
    return content[:place] + b"\x00\xff" * 32 + content[place + 64 :]


def damage_store(folder: Path) -> Iterator[tuple]:
    """Every committed run in turn, in each way: reading it must name it, and all the others must still be read."""
    runs = folder / "runs"
    shutil.copytree(DATA / "runs", runs, ignore=shutil.ignore_patterns("*.checkpoint"))
    paths = sorted(runs.glob("*.jsonl"))
    for name, damage in DAMAGES.items():
        detected = 0
        for path in paths:
            whole = path.read_bytes()
            path.write_bytes(damage(whole))
            message = _error(lambda path=path: read_run(path), StoreError)
            detected += message is not None and str(path) in message
            path.write_bytes(whole)
        readable = sum(_error(lambda path=path: read_run(path), StoreError) is None for path in paths)
        yield (
            f"a committed run {name}",
            len(paths),
            detected,
            (f"StoreError names the file and what to do; restored, {readable} of {len(paths)} are read"),
        )


def damage_data(folder: Path) -> Iterator[tuple]:
    """Every file of MNIST and STS-B, every kind of file of the others: loading must name it."""
    root = folder / "data"
    for name in ("MNIST", "stsb", "bert"):
        if (DATA / name).exists():
            shutil.copytree(DATA / name, root / name)
    write_scenes(root / "cityscapes", n_train=2, n_val=1, size=(32, 64))
    if (DATA / "cifar10").is_dir():
        for path in sorted((DATA / "cifar10").glob("*/*/*"))[::997]:
            target = root / path.relative_to(DATA)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    sets = {
        "MNIST": (["MNIST/raw/*-ubyte"], lambda: load_multimnist(10, 10, "mnist", root=root)),
        "STS-B": (
            ["stsb/*-train.csv", "stsb/*-dev.csv", "bert/vocab.txt"],
            lambda: load_stsb(10, 10, "stsb", root=root),
        ),
        "CIFAR-10 as images": (["cifar10/*/*/*"], lambda: load_cifar10(10, 10, "cifar10-jpeg", root=root)),
        "Cityscapes (stand-in)": (["cityscapes/*/*/*/*.png"], lambda: _read_all(root)),
    }
    for name, (patterns, load) in sets.items():
        yield from _damage_set(name, [path for pattern in patterns for path in sorted(root.glob(pattern))], load)


def _read_all(root: Path) -> None:
    data = load_cityscapes(2, 1, "cityscapes", size=(32, 64), workers=0, root=root)
    for split in (data.train, data.test):
        list(split.batches(torch.arange(len(split)), 1, training=False))


def _damage_set(name: str, paths: list[Path], load: Callable) -> Iterator[tuple]:
    problem = _error(load, DataError)
    if not paths or problem:
        yield f"{name}: a file damaged", 0, 0, f"not tried: {problem or 'the set is not at hand'}"
        return
    for way in ("cut in half", "emptied"):
        detected = []
        for path in paths:
            whole = path.read_bytes()
            path.write_bytes(DAMAGES[way](whole))
            message = _error(load, DataError)
            detected.append(message is not None and path.name in message)
            path.write_bytes(whole)
        missed = [path.name for path, seen in zip(paths, detected, strict=True) if not seen]
        whole_again = _error(load, DataError) is None
        yield (
            f"{name}: a file {way}",
            len(paths),
            sum(detected),
            (
                "DataError names the file and what to do"
                + (f"; NOT for {', '.join(missed)}" if missed else "")
                + ("; restored, the set loads again" if whole_again else "; restored, the set does NOT load")
            ),
        )


def _error(call: Callable, kind: type[Exception]) -> str | None:
    """The message of the error of this kind that a call raises, or None."""
    try:
        call()
    except kind as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()
