"""Tiny repositories with notebooks, for tests of what runs them."""

from pathlib import Path

import yaml

HEADER = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A notebook

"""
PARAMETERS = """\
# %% tags=["parameters"]
n = 3
device = "auto"
jobs = 1
runs_dir = "build/quick/runs"
figures_dir = "build/quick/figures"

"""
PROFILES = ("smoke", "quick", "paper", "record")


def write_repository(root: Path, notebooks: dict[str, str], files: dict[str, list[str]] | None = None) -> Path:
    """Scripts with these cells of code, one profile like the other, and the files that each is said to write."""
    (root / "notebooks").mkdir(parents=True)
    for name, code in notebooks.items():
        (root / "notebooks" / f"{name}.py").write_text(f"{HEADER}{PARAMETERS}# %%\n{code}\n")
    profiles = {profile: {name: {"n": 2} for name in notebooks} for profile in PROFILES}
    (root / "notebooks" / "profiles.yaml").write_text(yaml.safe_dump(profiles))
    common = {"title": "A file", "reproduces": "figure 1", "data": "none", "claims": []}
    artefacts = [{"notebook": name, "files": names} | common for name, names in (files or {}).items()]
    (root / "figures").mkdir()
    (root / "figures" / "artifacts.yaml").write_text(yaml.safe_dump(artefacts))
    return root


def writes(name: str) -> str:
    """Code that writes a file into the folder of figures."""
    return (
        "from pathlib import Path\n"
        'folder = Path("..", figures_dir)\n'
        "folder.mkdir(parents=True, exist_ok=True)\n"
        f'_ = (folder / "{name}").write_text(f"{{n}} {{device}} {{jobs}}")'
    )
