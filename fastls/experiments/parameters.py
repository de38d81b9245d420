"""The parameters of a notebook: read from its cell of literals, checked by name, kind and range before anything runs.

`reproduce` checks the parameters of a profile. Every notebook checks its own in one line, since papermill does not:
it passes on text for a list, or 2.5 epochs.
"""

import ast
import math
from pathlib import Path

from fastls.paths import IN_CLONE, NOTEBOOKS, ROOT

MARK = '# %% tags=["parameters"]\n'


def parse_parameters(source: str, name: str) -> dict:
    """Names and values of a cell of lines ``name = literal``.

    Raises:
        ValueError: any other line.

    Example:
        >>> parse_parameters("epochs = 20  # of every run", "03_multimnist")
        {'epochs': 20}
    """
    parameters = {}
    for statement in ast.parse(source).body:
        try:
            (target,) = statement.targets
            parameters[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError) as error:
            raise ValueError(
                f"The parameters cell of notebook {name} must hold lines `name = literal` only, "
                f"found `{ast.unparse(statement)}`: what is derived from parameters belongs in the next cell."
            ) from error
    return parameters


def check_values(given: dict, defaults: dict, name: str) -> None:
    """Raise ValueError if a value is not of the kind of its default, or out of range.

    A whole number must be at least 1, or at least 0 if its default is 0; any other number positive and finite. A list
    holds texts or positive numbers, as its default does; it may be empty only if its default is empty.
    """
    for parameter, value in given.items():
        rule = _find_broken_rule(value, defaults[parameter])
        if rule:
            raise ValueError(
                f"`{parameter}` of notebook {name} must be {rule}, found {value!r}."
                + (" papermill's -y takes a list: -y 'name: [0.1, 0.2]'." if rule.startswith("a list") else "")
            )


def check_notebook(name: str, values: dict) -> None:
    """Check, after the parameters of a notebook: does it use the `fastls` of its own clone, and are its values right?

    Args:
        name: of the notebook, "03_multimnist".
        values: its ``globals()``.

    Raises:
        ValueError: see `check_values`.
        RuntimeError: the working folder belongs to another clone than the `fastls` that was imported.
    """
    here = next((path for path in (Path.cwd(), *Path.cwd().parents) if _is_clone(path)), ROOT)
    if IN_CLONE and here.resolve() != ROOT.resolve():
        raise RuntimeError(
            f"Notebook {name} must use the fastls of its own clone, found that of another: {ROOT.name} beside "
            f"{here.name}. Choose the kernel of this clone, or `pip install -e .` here."
        )
    script = NOTEBOOKS / f"{name}.py"
    if script.exists():
        defaults = parse_parameters(script.read_text(encoding="utf-8").split(MARK, 1)[1].split("\n# %%", 1)[0], name)
        check_values({parameter: values[parameter] for parameter in defaults}, defaults, name)


def _is_clone(path: Path) -> bool:
    return (path / "fastls" / "__init__.py").is_file() and (path / "figures" / "artifacts.yaml").is_file()


def _find_broken_rule(value, default) -> str | None:
    """The rule that a value breaks, in words; None if the value is right."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "True or False"
    if isinstance(default, int):
        least = min(default, 1)
        return None if number and isinstance(value, int) and value >= least else f"a whole number of at least {least}"
    if isinstance(default, float):
        return None if number and 0 < value < math.inf else "a positive number"
    if isinstance(default, list):
        what = "texts" if default and isinstance(default[0], str) else "positive numbers"
        entry = default[0] if default and isinstance(default[0], str) else 1.0
        right = isinstance(value, list) and (value or not default)
        right = right and not any(_find_broken_rule(part, entry) for part in value)
        return None if right else f"a list of {what}"
    return None if isinstance(value, str) else "a text"
