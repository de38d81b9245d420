"""How sure a number is: means, differences and ratios with their t-intervals, and corrections for many tests.

The intervals are Student's t-intervals. With the three to ten repetitions of this project they cover 95 %, as
`tests/experiments/reporting/test_intervals.py` shows; the percentile bootstrap of a median covers 88 to 93 % there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05  # of a test; intervals are of 1 − LEVEL


class Estimate(NamedTuple):
    """A mean or a difference of means.

    Attributes:
        value: the estimate.
        error: its standard error; NaN for a single repetition, 0 for a value that is known exactly.
        freedom: degrees of freedom of its t-distribution.
        n: number of repetitions; of two samples, the smaller number.
    """

    value: float
    error: float
    freedom: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval; NaN where there is none."""
        if self.error == 0:
            return self.value, self.value
        half = float(stats.t.ppf(1 - LEVEL / 2, self.freedom) * self.error) if self.freedom > 0 else np.nan
        return self.value - half, self.value + half

    def chance_above(self, limit: float) -> float:
        """p of the one-sided test of "the mean is at most `limit`": small if the data say that the mean is above."""
        if self.error == 0:
            return 0.0 if self.value > limit else 1.0
        if not self.freedom > 0 or np.isnan(self.error):
            return 1.0
        return float(stats.t.sf((self.value - limit) / self.error, self.freedom))

    def chance_below(self, limit: float) -> float:
        """p of the one-sided test of "the mean is at least `limit`"."""
        return Estimate(-self.value, self.error, self.freedom, self.n).chance_above(-limit)


def estimate_mean(values: Sequence[float]) -> Estimate:
    """The mean of repetitions, without missing ones.

    Example:
        >>> low, high = estimate_mean([1.0, 2.0, 3.0]).interval
        >>> round(low, 2), round(high, 2)
        (-0.48, 4.48)
    """
    values = _known(values)
    if not len(values):
        return Estimate(np.nan, np.nan, 0, 0)
    error = float(stats.sem(values)) if len(values) > 1 else np.nan
    return Estimate(float(values.mean()), error, len(values) - 1, len(values))


def estimate_difference(ours: Sequence[float], rival: Sequence[float]) -> Estimate:
    """mean(ours) − mean(rival) of two unpaired samples, after Welch (1947): spreads and sizes may differ."""
    first, second = estimate_mean(ours), estimate_mean(rival)
    variances = np.array([first.error**2, second.error**2])
    freedoms = np.array([first.freedom, second.freedom])
    total = variances.sum()
    freedom = total**2 / (variances**2 / freedoms).sum() if freedoms.min() > 0 and total > 0 else min(freedoms)
    return Estimate(first.value - second.value, float(np.sqrt(total)), float(freedom), min(first.n, second.n))


def estimate_log_ratio(ours: Sequence[float], rival: Sequence[float]) -> Estimate:
    """The mean of log(ours / rival) over rounds that measured both: the noise of a machine acts like a factor."""
    return estimate_mean(np.log(np.asarray(ours, dtype=float) / np.asarray(rival, dtype=float)))


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval."""
    estimate = estimate_mean(values)
    return estimate.value, *estimate.interval


def ratio_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of positive ratios and its 95 % interval."""
    mean, low, high = mean_interval(np.log(np.asarray(ratios, dtype=float)))
    return float(np.exp(mean)), float(np.exp(low)), float(np.exp(high))


def name_interval(name: str, ends: tuple[float, float, float]) -> dict[str, float]:
    """Table columns for a value and the ends of its interval, named so that `condense` folds them."""
    value, low, high = ends
    return {name: value, f"low, {name}": low, f"high, {name}": high}


def adjust_holm(chances: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected so that the chance of any false decision is at most `LEVEL`.

    Example:
        >>> adjust_holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    adjusted, largest = [1.0] * len(chances), 0.0
    for rank, index in enumerate(np.argsort(chances, kind="stable")):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[index]))
        adjusted[index] = largest
    return adjusted


def count_needed(spreads: tuple[float, float], distance: float, most: int = 1000) -> int | None:
    """How many repetitions of each of two samples decide a difference at this distance from the limit of its test.

    Args:
        spreads: standard deviation of one repetition, in each sample. The test is Welch's, as in
            `estimate_difference`: if one sample spreads far more than the other, only this sample matters.
        distance: of the difference from the limit of the test.
        most: the largest n to try.

    Returns:
        The smallest n whose half interval is at most `distance`; None if n is above `most`, or cannot be computed.
    """
    variances = np.square(spreads)
    total = variances.sum()
    if not (total >= 0 and distance > 0):
        return None
    counts = np.arange(2, most + 1)
    freedom = (counts - 1) * (total**2 / np.square(variances).sum() if total else 2)
    half = stats.t.ppf(1 - LEVEL / 2, freedom) * np.sqrt(total / counts)
    enough = counts[half <= distance]
    return int(enough[0]) if len(enough) else None


def _known(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return values[~np.isnan(values)]
