r"""Line searches that minimise: they return the step with the smallest merit, not the first that passes a test.

The merit of a step is the largest change of a loss, m(η) = max_t [φ_t(η) − L_t], with m(0) = 0. A step of negative
merit decreases every loss. m is convex if all φ_t are, but has kinks where another task has the largest change. Both
searches keep a bracket around the best step so far. They differ only in the step that they try next.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from fastls.algorithms.line_search import LineSearch, Phi, SearchResult, Slopes

GOLDEN = (3 - math.sqrt(5)) / 2


def compute_merit(trial_losses: Tensor, losses: Tensor) -> float:
    """max_t [φ_t(η) − L_t], in float64; +∞ where a loss is NaN or infinite."""
    rise = trial_losses.to(losses.device).double() - losses.double()
    return rise.max().item() if bool(trial_losses.isfinite().all()) else math.inf


class Bracket:
    """left ≤ best ≤ right around a minimum of the merit; `best` has the smallest merit of all steps tried and of 0.

    Attributes:
        slope: derivative of the merit at 0, −min_t s_t.
        merits: step -> merit of all trials, and of 0.
        moves: distance of each trial after the first from the step that was best before it.
    """

    def __init__(self, slope: float, lr_ub: float, merit: float):
        self.slope = slope
        self.left, self.right = 0.0, lr_ub
        self.best = lr_ub if merit < 0 else 0.0
        self.merits = {0.0: 0.0, lr_ub: merit}
        self.moves: list[float] = []

    @property
    def trials(self) -> int:
        return len(self.moves) + 1

    def add(self, eta: float, merit: float) -> None:
        """Narrow the bracket by a trial strictly inside of it."""
        self.moves.append(abs(eta - self.best))
        self.merits[eta] = merit
        worse = eta
        if merit < self.merits[self.best]:
            worse, self.best = self.best, eta
        if worse < self.best:
            self.left = worse
        else:
            self.right = worse

    def into_larger_part(self, share: float) -> float:
        """The point at this share of the way from the best step to the farther end."""
        below, above = self.best - self.left, self.right - self.best
        return self.best - share * below if below > above else self.best + share * above


@dataclass(frozen=True)
class BracketSearch(LineSearch):
    """What both searches share: parameters, bracket, and when to stop. They differ in `_propose`, the next step."""

    tolerance: float = 1e-3
    max_trials: int = 100
    floor: float = 1e-10

    def __post_init__(self):
        name = type(self).__name__
        if not 0 < self.tolerance < 1:
            raise ValueError(f"`{name}(tolerance=...)` must be in (0, 1), found {self.tolerance}.")
        if not isinstance(self.max_trials, int) or self.max_trials < 1:
            raise ValueError(f"`{name}(max_trials=...)` must be an integer ≥ 1, found {self.max_trials!r}.")
        self._check_floor()

    def _search(self, phi: Phi, losses: Tensor, slopes: Slopes, lr_ub: float, previous: float) -> SearchResult:
        bracket = Bracket(-slopes.total.min().item(), lr_ub, compute_merit(phi(lr_ub), losses))
        while bracket.trials < self.max_trials and bracket.right - bracket.left > self.tolerance * bracket.best:
            # If the bound is the best step so far, a trial just below it shows whether the merit still falls there.
            at_bound = bracket.best == bracket.right
            eta = bracket.best - self._least_move(bracket) if at_bound else self._propose(bracket)
            if eta < self.floor:
                break
            bracket.add(eta, compute_merit(phi(eta), losses))
        accepted = bracket.best > 0
        return SearchResult(bracket.best if accepted else self.floor, bracket.trials, accepted)

    def _least_move(self, bracket: Bracket) -> float:
        """A third of the final width: such moves to both sides of the best step end the search."""
        return self.tolerance * bracket.best / 3


class GoldenSection(BracketSearch):
    r"""argmin over (0, lr_ub] of

    .. math:: m(η) = max_t [φ_t(η) − L_t]

    by golden section, up to a relative tolerance: if m is unimodal, as for convex losses, the returned η is within
    ``tolerance * η`` of the minimiser. lr_ub is tried first, and returned after two trials if m still falls there. Else
    every trial narrows the bracket to 0.62 of its width. If m has several minima, the search finds one of them; the
    returned η is always the best that was tried.

    Args:
        tolerance: in (0, 1), width of the last bracket relative to the step.
        max_trials: number of trials after which the best step so far is returned.
        floor: ε > 0; no smaller step is tried, and a failed search returns this step size.

    A step is accepted if m(η) < 0, that is, if every loss decreases. A trial with a loss that is NaN or infinite
    has merit +∞. What a search returns: see `LineSearch`; the last accepted step is ignored.

    Raises:
        ValueError: a parameter outside its range.

    Example:
        >>> import torch
        >>> phi = lambda eta: torch.tensor([(1 - 4 * eta) ** 2])          # L = (1 − 4η)², smallest at η = 1/4
        >>> slopes = Slopes(own=torch.zeros(1), shared=torch.tensor([8.0]))
        >>> result = GoldenSection(tolerance=0.01)(phi, torch.ones(1), slopes, 1.0)
        >>> round(result.step_size, 2), result.trials, result.accepted
        (0.25, 15, True)

    Source: Kiefer (1953), "Sequential Minimax Search for a Maximum", https://doi.org/10.2307/2032161.
    Multiobjective steepest descent minimises the same merit to first order: Fliege and Svaiter (2000),
    https://doi.org/10.1007/s001860000043.
    """

    def _propose(self, bracket: Bracket) -> float:
        return bracket.into_larger_part(GOLDEN)


class Parabolic(BracketSearch):
    r"""argmin over (0, lr_ub] of

    .. math:: m(η) = max_t [φ_t(η) − L_t]

    by successive parabolic interpolation: the next trial is the vertex of the parabola through the three best steps
    so far. As long as no step has a negative merit, the parabola has the value 0 and the slope −min_t s_t at 0, and
    its vertex is kept between a tenth and a half of the bracket. If the vertex is outside of the bracket, or farther
    away than half of the move before last, a golden section step replaces it: kinks and waves only cost more trials.

    Arguments, result and errors are those of `GoldenSection`. If m is smooth, this search usually needs fewer trials:
    4 in the example there.

    Source: Brent (1973), "Algorithms for Minimization without Derivatives", chapter 5, for the safeguards; Nocedal and
    Wright (2006), "Numerical Optimization", section 3.5, for the first parabola.
    """

    def _propose(self, bracket: Bracket) -> float:
        if bracket.best == 0:
            return self._propose_from_slope(bracket)
        vertex = _vertex(bracket)
        move = abs(vertex - bracket.best)
        if not (bracket.left < vertex < bracket.right and move < bracket.moves[-2:][0] / 2):
            return bracket.into_larger_part(GOLDEN)
        least = self._least_move(bracket)
        if move >= least:
            return vertex
        return bracket.into_larger_part(0) + math.copysign(least, bracket.into_larger_part(1) - bracket.best)

    @staticmethod
    def _propose_from_slope(bracket: Bracket) -> float:
        right, merit = bracket.right, bracket.merits[bracket.right]
        if merit == math.inf:
            return bracket.into_larger_part(GOLDEN)
        vertex = -bracket.slope * right**2 / (2 * (merit - bracket.slope * right))
        return min(max(vertex, 0.1 * right), 0.5 * right)


def _vertex(bracket: Bracket) -> float:
    """Vertex of the parabola through the three steps of smallest merit; NaN if there is none or it opens downwards."""
    (x, at_x), (v, at_v), (w, at_w) = sorted(bracket.merits.items(), key=lambda item: item[1])[:3]
    slope = (at_v - at_x) / (v - x)
    curvature = ((at_w - at_x) / (w - x) - slope) / (w - v)
    if not 0 < curvature < math.inf:
        return math.nan
    return (x + v) / 2 - slope / (2 * curvature)
