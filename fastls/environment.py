"""The versions, machine and device behind a result: part of every run's header, shown by `python -m fastls env`."""

import multiprocessing
import os
import platform
import re
import sys
from importlib import metadata
from multiprocessing.context import BaseContext
from pathlib import Path

import torch

from fastls.paths import ROOT

STORED_ONLY = "FASTLS_STORED_ONLY"  # if set: draw from stored runs, make no new run
SCHEDULER = "FASTLS_SCHEDULER"  # address of the Dask cluster that trains; `reproduce --scheduler` sets it
RECORDED = ("fastls", "torch", "torchvision", "transformers", "numpy", "scipy")


def describe_environment(device: str) -> dict:
    """Versions, machine and device, as plain values."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor_name()
    return {
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in RECORDED},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": name,
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
    }


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_context(module: str) -> BaseContext:
    """How processes are started, in a second instead of the time of their imports: a server imports `module` once.

    A process forked from this one must not use CUDA or a thread pool, so the server is a clean one. It has the
    environment variables of its own start: hand on those of the moment. On macOS a fork after imports may crash.
    """
    forks = "forkserver" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload([module])
    return context


def processor_name() -> str:
    """The processor's name from /proc/cpuinfo on Linux, elsewhere what Python's `platform` reports."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def resolve_device(device: str) -> str:
    """ "auto" becomes "cuda" if torch finds a CUDA device, else "cpu"; other names stay.

    Raises:
        ValueError: an unknown name; or "cuda" without a CUDA device, unless only stored runs are drawn.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"`device` must be 'auto', 'cpu' or 'cuda', found {device!r}.")
    available = torch.cuda.is_available()
    if device == "cuda" and not available and not os.environ.get(STORED_ONLY):  # stored runs need no device
        raise ValueError("`device` is 'cuda', but torch finds no CUDA device here; use 'cpu' or 'auto'.")
    return ("cuda" if available else "cpu") if device == "auto" else device


def check_requirements(path: Path = ROOT / "requirements.txt") -> list[tuple[str, str, str | None]]:
    """(package, pinned version, installed version or None) for each line ``package==version``."""
    pins = re.findall(r"^([\w-]+)==(\S+)", path.read_text(), flags=re.MULTILINE)
    return [(package, pinned, _version(package)) for package, pinned in pins]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
