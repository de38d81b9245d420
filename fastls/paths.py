"""Where things stand: in a clone of the repository, found from this file, so that the working folder never matters.

A copy that `pip install .` made has no clone around it: there the working folder stands in for one, so that data sets
which the library is asked to download never land beside the installed packages.
"""

import os
import re
import uuid
from pathlib import Path

_PARENT = Path(__file__).resolve().parent.parent
IN_CLONE = (_PARENT / "figures" / "artifacts.yaml").is_file()
ROOT = _PARENT if IN_CLONE else Path.cwd()
DATA = ROOT / "data"
FIGURES = ROOT / "figures"
NOTEBOOKS = ROOT / "notebooks"
# First word of a file's name -> its folder among the figures. What the paper and the thesis show stays at the top.
FOLDERS = {"claims": "claims", "bench": "bench", "ours": "ours", "robustness": "checks", "gpu": "checks"}


def in_repository(path: str | Path) -> Path:
    """An absolute path as it is, a relative one from the root of the repository."""
    return ROOT / path


def place(figures: Path, name: str) -> Path:
    """Where a figure, a table or a report of this name lies, in ``figures`` or another folder of the same layout."""
    return figures / FOLDERS.get(re.split("[-.]", name)[0], "") / name


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write beside the target, then rename: whoever looks sees the old file or the new one, whole.

    Raises:
        OSError: a full disk and the like; the message names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror or error}; what was there before is whole", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
