"""Notebooks that run at once take turns: while a cell of one times steps, nothing of the others runs."""

from pathlib import Path

from filelock import ReadWriteLock
from nbformat import NotebookNode


class Turns:
    """The share of one notebook in a lock of readers and writers.

    A running notebook is a reader. Before a cell that times steps it becomes the writer: it waits until every other
    notebook has ended or waits too. The operating system frees the lock of a process that dies.

    Args:
        path: a file that all notebooks share; it is made if it is missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Turns(Path(folder) / "turns.lock") as turns:
        ...     turns.begin({"cell_type": "code", "source": "timing.Timing(setting, timing_rounds).execute(store)"})
        ...     turns.alone
        True
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = ReadWriteLock(path)
        self.alone = False

    def __enter__(self) -> "Turns":
        self._lock.acquire_read()
        return self

    def __exit__(self, *_) -> None:
        self._lock.release(force=True)  # also where Ctrl-C came while it waited in `begin`, and holds nothing
        self.alone = False

    def begin(self, cell: NotebookNode) -> None:
        """Call before each code cell."""
        if times_steps(cell) != self.alone:
            self._lock.release()
            self.alone = not self.alone
            (self._lock.acquire_write if self.alone else self._lock.acquire_read)()


def times_steps(cell: NotebookNode) -> bool:
    """Whether the cell reads a parameter ``…_rounds``, as all cells that time steps do."""
    return "_rounds" in cell["source"] and "parameters" not in str(cell.get("metadata", {}))
