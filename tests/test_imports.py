"""Imports point one way, and using the algorithms loads nothing that only the experiments need."""

import ast
import subprocess
import sys
from pathlib import Path

import fastls

PACKAGE = Path(fastls.__file__).parent
EXPERIMENTS = {"algorithms", "models", "datasets", "environment", "paths", "fastls"}
MAY_IMPORT = {
    "algorithms": {"algorithms", "models.multitask", "models.latent", "models.parts", "models.trial_state"},
    "models": {"models"},
    "datasets": {"datasets", "paths"},
    "experiments": {"experiments", *EXPERIMENTS},
    "experiments/training": {"experiments.training", *EXPERIMENTS},
    "experiments/measuring": {"experiments.measuring", "experiments.training", *EXPERIMENTS},
    "experiments/reporting": {"experiments.reporting", "experiments.training", *EXPERIMENTS},
    "experiments/studies": {
        *("experiments.studies", "experiments.reporting", "experiments.measuring", "experiments.training"),
        *EXPERIMENTS,
    },
    "teaching": {
        "teaching",
        "algorithms",
        "models",
        "paths",
        "experiments.notebook_runner",
        "experiments.reporting.planes",
        "experiments.reporting.style",
    },
}


def imported_from_fastls(path: Path) -> set[str]:
    """Dotted names below `fastls` that the file imports, at its top or within; "fastls" for what the root offers."""
    rooms = {entry.stem for entry in PACKAGE.iterdir()}
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it points"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    below = {name.removeprefix("fastls.") for name in found if name.split(".")[0] == "fastls"}
    return {name if name.split(".")[0] in rooms else "fastls" for name in below}


def test_imports_point_one_way():
    wrong = []
    for room, allowed in MAY_IMPORT.items():
        files = sorted((PACKAGE / room).rglob("*.py"))
        assert files, room
        for path in files:
            wrong += [
                f"{path.relative_to(PACKAGE)} imports fastls.{name}"
                for name in imported_from_fastls(path)
                if not any(name == prefix or name.startswith(prefix + ".") for prefix in allowed)
            ]
    assert not wrong, "\n".join(wrong)


def test_import_fastls_is_light():
    heavy = {"transformers", "torchvision", "sklearn", "matplotlib", "pandas", "seaborn"}
    code = f"import sys, fastls; print(*sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_files_and_folders_are_small():
    for folder in [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= 10, f"{folder.relative_to(PACKAGE.parent)} has {len(files)} files"
        for path in files:
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= 300, f"{path.relative_to(PACKAGE.parent)} has {lines} lines"
