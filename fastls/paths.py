"""The folders of the repository, found from the place of this file: the working folder does not matter.

A copy installed by `pip install .` lies outside of a clone. Then the working folder takes the clone's place, so that
downloaded data sets never land beside the installed packages.
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
# First word of a file's name -> its folder below the figures. Files that the paper or the thesis show stay at the top.
FOLDERS = {"claims": "claims", "bench": "bench", "ours": "ours", "robustness": "checks", "gpu": "checks"}


def in_repository(path: str | Path) -> Path:
    """The path below the root of the repository; an absolute path stays as it is."""
    return ROOT / path


def place(figures: Path, name: str) -> Path:
    """Path of the figure, table or report `name` in ``figures``, or in another folder of the same layout."""
    return figures / FOLDERS.get(re.split("[-.]", name)[0], "") / name


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a temporary file beside the target, then rename it: readers see the whole old or the whole new file.

    Raises:
        OSError: the file cannot be written, for example on a full disk; the message names the file.
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
