"""Make wide tables narrow enough for a page: an interval in one cell, passes in one cell, the rest in the CSV."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

MOST_COLUMNS = 8
LOW, HIGH = "low", "high"
PASSES = ("encoder", "decoder")
COUNTS = ("n", "diverged")  # shown beside, where the rows differ in them


def condense(table: pd.DataFrame, hidden: Sequence[str] = (), digits: int = 3) -> tuple[pd.DataFrame, list[str]]:
    """The part of a table that a page shows, and a note about the rest.

    The ends of an interval, "low, X" and "high, X" or "low" and "high" behind a column, join that column as
    "value [low, high]"; "encoder forward" and "encoder backward" become "encoder passes", forward + backward. An ``n``
    that is the same in all rows, and a ``diverged`` that is 0 in all rows, move to the note.

    Args:
        table: all columns.
        hidden: columns that the page leaves out.
        digits: significant digits of values that share a cell.

    Returns:
        The narrow table and no, one or two notes.

    Raises:
        ValueError: more than `MOST_COLUMNS` columns beside `COUNTS` are left, or a hidden column is missing.

    Example:
        >>> wide = pd.DataFrame({"method": ["FBLS"], "ratio": [1.04], "low": [1.01], "high": [1.07], "n": [10]})
        >>> narrow, notes = condense(wide)
        >>> narrow.to_dict("records")
        [{'method': 'FBLS', 'ratio': '1.04 [1.01, 1.07]'}]
        >>> notes
        ['n = 10 in every row. In brackets: the ends of an interval.']
    """
    narrow, notes = _fold_passes(_fold_intervals(table, digits)), []
    unknown = [name for name in hidden if name not in narrow]
    if unknown:
        raise ValueError(f"`hidden` names {unknown}, the folded table has the columns {list(narrow)}.")
    narrow = narrow.drop(columns=list(hidden))
    if "n" in narrow and narrow["n"].nunique(dropna=False) == 1:
        notes.append(f"n = {narrow.pop('n').iloc[0]} in every row.")
    if "diverged" in narrow and (narrow["diverged"] == 0).all():
        narrow.pop("diverged")
        notes.append("No run diverged.")
    if any(name.split(",")[0] == LOW for name in table):
        notes.append("In brackets: the ends of an interval.")
    if {f"{part} passes" for part in PASSES} & (set(narrow) - set(table)):
        notes.append("Passes: forward + backward.")
    wide = [name for name in narrow if name not in COUNTS]
    if len(wide) > MOST_COLUMNS:
        raise ValueError(
            f"A page shows {MOST_COLUMNS} columns at most, beside {' and '.join(COUNTS)}, found {len(wide)}: {wide}. "
            "Name those that the CSV alone shall have as `hidden`."
        )
    return narrow, [" ".join(notes)] if notes else []


def _fold_intervals(table: pd.DataFrame, digits: int) -> pd.DataFrame:
    narrow = table.copy()
    for low in [name for name in table if name == LOW or name.startswith(f"{LOW}, ")]:
        suffix = low.removeprefix(LOW)  # "" or ", X"
        high, named = HIGH + suffix, suffix.removeprefix(", ")
        before = table.columns[table.columns.get_loc(low) - 1]
        base = named if named in table else before
        if not base.endswith(named):
            raise ValueError(f"{low!r} must stand behind the column whose interval it is, found {base!r} before it.")
        cells = zip(table[base], table[low], table[high], strict=True)
        narrow[base] = [_join(value, *ends, digits) for value, *ends in cells]
        narrow = narrow.drop(columns=[low, high])
    return narrow


def _join(value: float | None, low: float, high: float, digits: int) -> str | float | None:
    if pd.isna(value) or pd.isna(low) or low == high:
        return value
    return f"{show(value, digits)} [{show(low, digits)}, {show(high, digits)}]"


def _fold_passes(table: pd.DataFrame) -> pd.DataFrame:
    for part in PASSES:
        forward, backward = f"{part} forward", f"{part} backward"
        if {forward, backward} <= set(table):
            cells = [f"{show(f)} + {show(b)}" for f, b in zip(table[forward], table[backward], strict=True)]
            table = table.assign(**{forward: cells}).drop(columns=backward)
            table = table.rename(columns={forward: f"{part} passes"})
    return table


def show(value, digits: int = 3) -> str:
    """A cell: `digits` significant digits, but all digits before the point; a dash for a missing value.

    Example:
        >>> show(0.12345), show(3190.4), show(999.6), show(2e-7), show(None), show("SGD")
        ('0.123', '3,190', '1,000', '2e-07', '–', 'SGD')
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if not isinstance(value, float):
        return str(value)
    size = abs(float(f"{value:.{digits}g}"))
    return f"{value:,.0f}" if 10**digits <= size < 1e9 else f"{value:.{digits}g}"
