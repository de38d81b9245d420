"""Paths and atomic writes: found from anywhere, whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from fastls import paths


def test_root_holds_the_package():
    assert (paths.ROOT / "fastls" / "paths.py").samefile(paths.__file__)


def test_paths_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.in_repository("data/runs") == paths.ROOT / "data" / "runs"
    assert paths.in_repository(tmp_path) == tmp_path


@pytest.mark.parametrize("content, expected", [("η ≤ 1\n", "η ≤ 1\n".encode()), (b"\x00\xff", b"\x00\xff"), ("", b"")])
def test_write(tmp_path, content, expected):
    path = tmp_path / "new" / "folder" / "file"
    paths.write_atomically(path, "before")
    paths.write_atomically(path, content)
    assert path.read_bytes() == expected
    assert list(path.parent.iterdir()) == [path]


def break_write(monkeypatch, where: str, error: BaseException) -> None:
    """Fail half way through the file, at its end, or when it is renamed."""

    def fail(*_):
        raise error

    class Half:
        def __init__(self, file):
            self.file = file

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            raise error

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    if where == "write":
        real = Path.open
        monkeypatch.setattr(Path, "open", lambda path, mode="r", **options: Half(real(path, mode, **options)))
    else:
        monkeypatch.setattr(os, where, fail)


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch, where):
    path = tmp_path / "file"
    path.write_text("before")
    with monkeypatch.context() as broken:
        break_write(broken, where, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OSError) as caught:
            paths.write_atomically(path, "after, and longer")
    assert caught.value.errno == errno.ENOSPC
    assert str(path) in str(caught.value) and "No space left on device" in str(caught.value)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_interrupt_leaves_the_old_file(tmp_path, monkeypatch, where):
    path = tmp_path / "file"
    path.write_text("before")
    with monkeypatch.context() as broken:
        break_write(broken, where, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            paths.write_atomically(path, "after, and longer")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_readers_never_see_half_a_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("before")
    seen = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (seen.append(path.read_text()), real(number)))
    paths.write_atomically(path, "after")
    assert seen == ["before"]


@pytest.mark.parametrize(
    "name, folder",
    [
        ("figure-3-multimnist-step-sizes.png", "."),
        ("thesis-figure-3-armijo.pdf", "."),
        ("artifacts.yaml", "."),
        ("claims.md", "claims"),
        ("claims-bert.csv", "claims"),
        ("ours-toy-gain.png", "ours"),
        ("bench-targets.md", "bench"),
        ("gpu-check.md", "checks"),
    ],
)
def test_figures_lie_in_folders_by_kind(name, folder):
    assert paths.place(Path("figures"), name) == Path("figures") / folder / name
