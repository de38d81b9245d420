r"""How far to go: line searches for several losses at once.

A line search sees only three things: a function φ(η) that returns the T losses at a trial step, the losses at 0 and
the slopes. It does not know whether φ moves the parameters of the whole model, or only z and the decoders. So every
search works for BLS and for FBLS.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

Phi = Callable[[float], Tensor]


class SearchResult(NamedTuple):
    """What a line search found: the step size, how often φ was evaluated, and whether the test held."""

    step_size: float
    trials: int
    accepted: bool


class Slopes(NamedTuple):
    r"""Predicted decrease per unit of step, by task: −dL_t/dη at η = 0, in its two parts.

    Attributes:
        own: (T,), ‖∂L_t/∂θ_t‖², from the task's own decoder.
        shared: (T,), ⟨g_t, d⟩ = (Gα)_t, from the shared encoder or the latent representation.
    """

    own: Tensor
    shared: Tensor

    @property
    def total(self) -> Tensor:
        return self.own + self.shared

    def descend(self) -> Tensor:
        """() bool: whether a small step decreases every loss."""
        return (self.total > 0).all()


# The decrease in each Armijo test of the paper, by equation number. (9) equals (6) if its misprint ∂L_t/∂θ_t is
# corrected to ∂L_t/∂z. In parameter space (6) is (4).
ARMIJO_FORMS: dict[int, Callable[[Slopes], Tensor]] = {
    6: lambda slopes: slopes.total,
    7: lambda slopes: slopes.own,
    8: lambda slopes: slopes.shared,
}
ARMIJO_FORMS[9] = ARMIJO_FORMS[6]


class LineSearch:
    """The interface between optimizers and searches, with the decisions that precede the first trial.

    To write your own search, derive from this class and define `_search` and ``floor``, the smallest step to try.

    Attributes:
        needs_trials: whether the search evaluates φ; if so, a step keeps the state that trials start from.
    """

    floor: float
    needs_trials: ClassVar[bool] = True

    def check_bound(self, lr_ub: float) -> None:
        """Raise unless ``floor < lr_ub`` and ``0 < lr_ub < ∞``. Called when the optimizer is made."""
        if not 0 < lr_ub < math.inf:
            raise ValueError(f"`lr_ub` must be positive and finite, found {lr_ub}.")
        if self.floor >= lr_ub:
            raise ValueError(f"`floor` must be below `lr_ub`, found floor={self.floor} and lr_ub={lr_ub}.")

    def __call__(
        self, phi: Phi, losses: Tensor, slopes: Slopes, lr_ub: float, previous: float = math.inf
    ) -> SearchResult:
        """Search (0, lr_ub].

        Args:
            phi: the losses at a trial step.
            losses, slopes: at 0, on the host.
            lr_ub: the bound. If a schedule has lowered it to the floor or below, for example to 0, there is no step
                to try: the step is 0, with no trial and ``accepted=True``, since no trial was rejected.
            previous: the last accepted step, or ∞ if there is none. A search may begin near it or ignore it.

        Returns:
            `SearchResult`. A failed search returns the floor with ``accepted=False``; the optimizer decides whether it
            takes this step. If a slope is not positive, the direction is not one of descent: no trial, and a failure.
        """
        if not 0 <= lr_ub < math.inf:
            raise ValueError(f"`lr_ub` must be finite and not negative, found {lr_ub}.")
        if lr_ub <= self.floor:
            return SearchResult(0.0, trials=0, accepted=True)
        if not slopes.descend():
            return SearchResult(self.floor, trials=0, accepted=False)
        return self._search(phi, losses, slopes, lr_ub, previous)

    def _search(self, phi: Phi, losses: Tensor, slopes: Slopes, lr_ub: float, previous: float) -> SearchResult:
        raise NotImplementedError

    def _check_floor(self) -> None:
        if not 0 < self.floor < math.inf:
            raise ValueError(f"`{type(self).__name__}(floor=...)` must be positive and finite, found {self.floor}.")


class ConstantStep(LineSearch):
    """η = lr, accepted without a trial: the search of SGD and MGDA-UB."""

    needs_trials = False

    def check_bound(self, lr: float) -> None:
        if not 0 < lr < math.inf:
            raise ValueError(f"`lr` must be positive and finite, found {lr}.")

    def __call__(self, phi: Phi, losses: Tensor, slopes: Slopes, lr: float, previous: float = math.inf) -> SearchResult:
        return SearchResult(lr, trials=0, accepted=True)


@dataclass(frozen=True)
class Backtracking(LineSearch):
    r"""The first η in lr_ub, γ lr_ub, γ² lr_ub, ... with, for every task t,

    .. math:: φ_t(η) ≤ L_t − η β s_t

    where s_t is the slope of task t. Equations (4) and (6) of the paper, according to the space that φ searches.

    Args:
        beta: β in (0, 1), the share of the predicted decrease that the test asks for.
        gamma: γ in (0, 1), the factor between trials. The paper does not give its value.
        floor: ε > 0; no smaller step is tried, and a failed search returns this step size.
        form: 6, 7, 8 or 9, the number of the test in the paper: (6) asks for own and shared decrease, (7) for the
            own part alone, (8) for the shared part alone; (9) with its misprint corrected is (6).
        growth: above 1. A search begins at `growth` times the last accepted step, and never above lr_ub. The default ∞
            begins every search at lr_ub, as the paper does. With 1.1, a warm start, most searches end at their first
            trial; if γ = 1/2 and the right step stays the same, about one search in seven needs a second trial. After a
            failed search the next one begins at lr_ub. If a schedule raises lr_ub, a step grows by at most this factor.
        order: "together" runs all T decoders in every trial. "in turn" first runs the decoder whose task rejected the
            last trial; if this task rejects again, the trial ends after one decoder instead of T. The steps are the
            same. An accepted trial may wait for the device twice, so use this with expensive decoders. φ must offer
            ``for_tasks(eta, tasks) -> (len(tasks),)``, as it does in BLS and FBLS.

    A trial with a loss that is NaN or infinite is rejected. What a search returns: see `LineSearch`.

    Raises:
        ValueError: a parameter outside its range.

    Example:
        >>> phi = lambda eta: torch.tensor([(1 - 4 * eta) ** 2])          # L = (1 − 4η)², so the slope is 8
        >>> slopes = Slopes(own=torch.zeros(1), shared=torch.tensor([8.0]))
        >>> Backtracking(beta=0.1, gamma=0.5)(phi, torch.ones(1), slopes, 1.0)
        SearchResult(step_size=0.25, trials=3, accepted=True)

    Source: Armijo (1966); Fliege and Svaiter (2000), https://doi.org/10.1007/s001860000043, for several functions;
    Filatov and Merkulov (2021), https://arxiv.org/abs/2110.00874. Unlike the printed pseudo-code, the η that is
    tested is the η that is used, and every trial starts from the same z.
    """

    beta: float = 0.1
    gamma: float = 0.5
    floor: float = 1e-10
    form: int = 6
    growth: float = math.inf
    order: str = "together"

    def __post_init__(self):
        for name in ("beta", "gamma"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"`Backtracking({name}=...)` must be in (0, 1), found {value}.")
        self._check_floor()
        if self.form not in ARMIJO_FORMS:
            raise ValueError(f"`Backtracking(form=...)` must be one of {sorted(ARMIJO_FORMS)}, found {self.form!r}.")
        if not self.growth > 1:
            raise ValueError(f"`Backtracking(growth=...)` must be above 1, found {self.growth}.")
        if self.order not in ("together", "in turn"):
            raise ValueError(f"`Backtracking(order=...)` must be 'together' or 'in turn', found {self.order!r}.")

    def _search(self, phi: Phi, losses: Tensor, slopes: Slopes, lr_ub: float, previous: float) -> SearchResult:
        test = ArmijoTest(phi, losses, ARMIJO_FORMS[self.form](slopes), self.beta, in_turn=self.order == "in turn")
        first, trials = min(lr_ub, self.growth * previous), 0
        while (eta := first * self.gamma**trials) >= self.floor:
            trials += 1
            if test.holds(eta):
                return SearchResult(eta, trials, accepted=True)
        return SearchResult(self.floor, trials, accepted=False)


class ArmijoTest:
    """The Armijo test, for one trial step after another.

    Attributes:
        in_turn: first test the task that rejected the last step; if it rejects again, test no other task.
        refusing: the task that rejected the last step; None before the first rejection.
    """

    def __init__(self, phi: Phi, losses: Tensor, decrease: Tensor, beta: float, in_turn: bool):
        self.phi, self.losses, self.decrease, self.beta, self.in_turn = phi, losses, decrease, beta, in_turn
        self.refusing: int | None = None

    def holds(self, eta: float) -> bool:
        if not self.in_turn:
            return bool(satisfies_armijo(self.phi(eta), self.losses, self.decrease, self.beta, eta))
        first = [] if self.refusing is None else [self.refusing]
        others = [t for t in range(len(self.losses)) if t not in first]
        return all(self._holds_for(eta, tasks) for tasks in (first, others) if tasks)

    def _holds_for(self, eta: float, tasks: list[int]) -> bool:
        losses, decrease = self.losses[tasks].double(), self.decrease[tasks].double()
        trial = self.phi.for_tasks(eta, tasks).to(losses)
        refused = ~passes_armijo(trial, losses, decrease, self.beta, eta)  # (len(tasks),)
        if refused.any():
            # On a parabola (φ_t(η) − L_t)/s_t is largest for the task that asks for the smallest step.
            rise = (trial - losses) / decrease
            rise = torch.where(rise.isfinite(), rise, math.inf).where(refused, -math.inf)
            self.refusing = tasks[int(rise.argmax())]
        return not refused.any()


def passes_armijo(trial_losses: Tensor, losses: Tensor, slopes: Tensor, beta: float, eta: float) -> Tensor:
    """(T,) bool, φ_t(η) ≤ L_t − η β s_t for each t, decided in float64; NaN and infinity fail."""
    bound = losses.double() - eta * beta * slopes.double()
    trial_losses = trial_losses.to(bound)
    return trial_losses.isfinite() & (trial_losses <= bound)


def satisfies_armijo(trial_losses: Tensor, losses: Tensor, slopes: Tensor, beta: float, eta: float) -> Tensor:
    """() bool, `passes_armijo` for every t."""
    return passes_armijo(trial_losses, losses, slopes, beta, eta).all()


def search_failure(result: SearchResult, slopes: Slopes) -> str:
    """Why a search was not accepted, in words."""
    if slopes.descend():
        return f"no step down to the floor {result.step_size:g} passed the test in {result.trials} trials"
    return f"the direction is not one of descent for every task: slopes {slopes.total.tolist()}"
