"""The store: one small JSON-lines file per run, a header and then rows, under a key made from the configuration."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from fastls.environment import STORED_ONLY
from fastls.paths import write_atomically

FORMAT = "fastls-run"
# Raise it when a change to algorithms, models or data sets alters results: stored runs then no longer count.
RESULTS_VERSION = 1


class StoreError(Exception):
    """A file of the store that cannot be used. The message says which file, what was found, what to do."""


@dataclass(frozen=True)
class Run:
    """A header (format, key, config, data, environment, digest) and rows, each a flat dict."""

    header: dict
    rows: tuple[dict, ...]

    @property
    def config(self) -> dict:
        return self.header["config"]


def compute_key(config: dict) -> str:
    """Sixteen hexadecimal digits of the sha256 of a configuration and `RESULTS_VERSION`."""
    canonical = json.dumps({"config": config, "results_version": RESULTS_VERSION}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def compute_digest(header: dict, rows: Sequence[dict]) -> str:
    """Sixteen hexadecimal digits of the sha256 of header and rows; they reveal a changed or incomplete file."""
    told = {name: value for name, value in header.items() if name != "digest"}
    return hashlib.sha256(json.dumps([told, rows], sort_keys=True).encode()).hexdigest()[:16]


class RunStore:
    """Runs as files ``<label>-<key>.jsonl`` in one folder.

    Args:
        root: the folder; made when the first run is saved.
    """

    def __init__(self, root: Path):
        self.root = Path(root)

    def path(self, label: str, config: dict) -> Path:
        return self.root / f"{label}-{compute_key(config)}.jsonl"

    def load(self, label: str, config: dict) -> Run | None:
        """The stored run of this configuration, or None.

        Raises:
            StoreError: the file is not a run, or not the run that its name says.
        """
        path = self.path(label, config)
        return read_run(path) if path.exists() else None

    def check_may_make(self, label: str, config: dict) -> None:
        """Check that a run may be made or continued; call this before.

        Raises:
            StoreError: the environment variable `STORED_ONLY` is set.
        """
        if os.environ.get(STORED_ONLY):
            raise StoreError(
                f"{self.path(label, config)} is missing or not complete, and {STORED_ONLY} allows stored runs alone. "
                "Unset it to make the run."
            )

    def get_or_make(self, label: str, config: dict, make: Callable[[], tuple[dict, list[dict]]]) -> Run:
        """The stored run of this configuration; if there is none, the header and rows of `make` are saved first.

        Raises:
            StoreError: the stored file is corrupt, or `STORED_ONLY` forbids making a run.
        """
        if not self.path(label, config).exists():
            self.check_may_make(label, config)
            self.save(label, config, *make())
        return self.load(label, config)

    @contextmanager
    def lock(self, label: str, config: dict) -> Iterator[None]:
        """Inside: no other process or thread is inside for the same run. Notebooks that run at once share runs.

        The empty file stays: a waiting process would keep a deleted one, and a third would make and lock a new one.
        """
        path = self.root / "locks" / f"{self.path(label, config).stem}.tmp"  # git ignores it
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield

    def save(self, label: str, config: dict, header: dict, rows: Iterable[dict]) -> Path:
        """Write the run, whole or not at all."""
        path = self.path(label, config)
        rows = list(rows)
        header = {"format": FORMAT, "key": compute_key(config), "config": config, **header}
        header["digest"] = compute_digest(header, rows)
        lines = [json.dumps(line, allow_nan=False, ensure_ascii=False) for line in (header, *rows)]
        write_atomically(path, "\n".join(lines) + "\n")
        return path


_ADVICE = "Delete the file (or restore it from git) and run again."


def read_run(path: Path) -> Run:
    """A run from its file.

    Raises:
        StoreError: not JSON lines, another format, a key that does not fit the configuration, or content that has
            changed since it was saved.
    """
    try:
        with path.open(encoding="utf-8") as file:
            header, *rows = (json.loads(line) for line in file)
    except ValueError as error:
        raise StoreError(f"{path} must hold a JSON object a line, found something else ({error}). {_ADVICE}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise StoreError(f'{path} must begin with a header of "format": "{FORMAT}", found none. {_ADVICE}')
    if not all(isinstance(row, dict) for row in rows):
        raise StoreError(f"{path} must hold a JSON object a line, found another kind of row. {_ADVICE}")
    key = compute_key(header.get("config"))
    if header.get("key") != key or not path.stem.endswith(key):
        raise StoreError(f"{path} must be named after the key of its configuration, {key}. {_ADVICE}")
    if header.get("digest") != compute_digest(header, rows):
        raise StoreError(f"{path} must hold what was saved, by its digest, found something else. {_ADVICE}")
    return Run(header, tuple(rows))
