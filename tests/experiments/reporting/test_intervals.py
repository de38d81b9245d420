"""Intervals cover what they promise, at the numbers of repetitions that this project has."""

import numpy as np
import pytest
from scipy import stats

from fastls.experiments.reporting.intervals import (
    Estimate,
    adjust_holm,
    count_needed,
    estimate_difference,
    estimate_log_ratio,
    estimate_mean,
    ratio_interval,
)

TRIES = 4000


def share_covered(make, truth: float) -> float:
    intervals = [make().interval for _ in range(TRIES)]
    return np.mean([low <= truth <= high for low, high in intervals])


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("noise", ["normal", "heavy tails"])
def test_a_mean_is_covered(n, noise):
    rng = np.random.default_rng(0)
    draw = {"normal": rng.standard_normal, "heavy tails": lambda size: rng.standard_t(3, size)}[noise]
    assert share_covered(lambda: estimate_mean(2 + draw(n)), 2.0) >= 0.94


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("spread", [1, 3])
def test_a_difference_of_samples_with_unequal_spread_is_covered(n, spread):
    rng = np.random.default_rng(1)
    make = lambda: estimate_difference(1 + rng.standard_normal(n), spread * rng.standard_normal(n))  # noqa: E731
    assert share_covered(make, 1.0) >= 0.94


def test_a_ratio_of_noisy_times_is_covered():
    """Both machines are slow now and then: four rounds, of which a tenth is half as slow again."""
    rng = np.random.default_rng(2)
    times = lambda: np.exp(0.03 * rng.standard_normal(4)) * (1 + 0.5 * (rng.random(4) < 0.1))  # noqa: E731
    assert share_covered(lambda: estimate_log_ratio(3 * times(), times()), np.log(3)) >= 0.94


def test_a_difference_is_that_of_welch():
    ours, rival = [1.0, 2.0, 4.0], [0.5, 0.7]
    expected = stats.ttest_ind(ours, rival, equal_var=False)
    found = estimate_difference(ours, rival)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert 2 * found.chance_below(0.0) == pytest.approx(2 - expected.pvalue)
    assert 2 * found.chance_above(0.0) == pytest.approx(expected.pvalue)
    assert found.n == 2


def test_one_repetition_tells_nothing():
    for estimate in (estimate_mean([1.0]), estimate_difference([1.0], [2.0, 3.0])):
        assert np.isnan(estimate.interval).all()
        assert estimate.chance_above(-100) == estimate.chance_below(100) == 1.0


def test_what_is_known_exactly_is_its_own_interval():
    exact = Estimate(2.0, 0.0, 3, 4)
    assert exact.interval == (2.0, 2.0) and exact.chance_above(1.0) == 0.0 and exact.chance_above(3.0) == 1.0


def test_ratios_are_averaged_as_factors():
    assert ratio_interval([0.5, 2.0])[0] == pytest.approx(1.0)


def test_holm_against_its_definition():
    assert adjust_holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert adjust_holm([0.9]) == [0.9] and adjust_holm([0.6, 0.7]) == [1.0, 1.0] and adjust_holm([]) == []


@pytest.mark.parametrize("ours", [[0.1, 0.2, 0.3], [0.2, 0.2, 0.2], [0.37, 0.31, 0.45]])
def test_so_many_repetitions_decide_and_one_less_does_not(ours):
    """The interval is that of `estimate_difference`, for samples of the same spreads."""
    rival = [0.31, 0.33, 0.35]
    spreads = float(np.std(ours, ddof=1)), float(np.std(rival, ddof=1))

    def half(n):
        one, other = (spread * stats.zscore(np.linspace(-1, 1, n), ddof=1) for spread in spreads)
        low, high = estimate_difference(one, other).interval
        return (high - low) / 2

    distance = 0.9 * half(3)
    n = count_needed(spreads, distance)
    assert n > 3 and half(n) <= distance < half(n - 1)


@pytest.mark.parametrize("spread, distance", [(1.0, 1e-6), (1.0, 0.0), (float("nan"), 1.0)])
def test_where_nothing_is_known_no_number_decides(spread, distance):
    assert count_needed((spread, spread), distance) is None
