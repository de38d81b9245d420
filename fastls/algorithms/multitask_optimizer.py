"""The step that all methods share: evaluate a batch, weigh the task gradients, search or not, move.

`MultiObjectiveOptimizer` takes the two things in which the four algorithms differ, a space and a line search;
`fastls.algorithms.optimizers` has them by name.
"""

import math
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from fastls.algorithms.directions import (
    Direction,
    check_weights,
    compute_gramian,
    get_direction,
    is_stationary,
    weigh,
)
from fastls.algorithms.line_search import SearchResult, Slopes, search_failure
from fastls.algorithms.spaces import (
    Evaluation,
    LatentSpace,
    Passes,
    Trials,
    check_finite,
    check_pulled,
    squared_norm,
    trainable,
)
from fastls.models.multitask import MultiTaskModel


@dataclass(frozen=True)
class StepRecord:
    r"""What happened in one step. T-vectors are in the order of ``model.tasks``.

    Attributes:
        losses: (T,), the losses before the step.
        weights: (T,), alpha; zero for a task without a gradient in this batch, see `find_heard`.
        slopes: (T,) float64, ‖∂L_t/∂θ_t‖² + (Gα)_t, the predicted decrease per unit of step, with ρ(Gα)_t where trials
            match the gain; None for `EqualWeight`.
        step_size: η that was taken.
        trials: evaluations of the losses by the line search; of `BlockFBLS`, by the encoder's.
        accepted: whether the test held at `step_size`; always true for constant steps.
        stationary: the batch was Pareto stationary up to rounding; nothing moved.
        gain: ρ = ‖Jᵀd_z‖² / ‖d_z‖² for the latent methods (NaN where d_z = 0), else None: how far θ moves z along
            d_z. None where nothing moved.
        passes: encoder and decoder passes of this step.
        decoder_steps: (T,) η_t of `BlockFBLS`, where `step_size` is the encoder's; else None.

    A step with ``wait=False`` leaves `step_size`, `accepted` and `stationary` on the device, as scalar tensors.
    """

    losses: Tensor
    weights: Tensor
    slopes: Tensor | None
    step_size: float | Tensor
    trials: int
    accepted: bool | Tensor
    stationary: bool | Tensor
    gain: Tensor | None
    passes: Passes
    decoder_steps: Tensor | None = None

    def read(self) -> "StepRecord":
        """The record with step size and outcome as plain numbers: waits for the device if the step did not.

        Raises:
            FloatingPointError: a loss or a slope is NaN or infinite, which a step that does not wait cannot tell.
        """
        if not isinstance(self.step_size, Tensor):
            return self
        found = torch.cat([self.losses.double(), self.slopes]).tolist()
        if not all(abs(value) < float("inf") for value in found):
            raise FloatingPointError(
                f"Losses and slopes at the start of a step must be finite, found {found}. The parameters have moved "
                "since, and are spoiled; a smaller `lr` or `lr_ub` may keep the training from diverging."
            )
        return replace(
            self,
            step_size=self.step_size.item(),
            accepted=bool(self.accepted),
            stationary=bool(self.stationary),
        )


class MultiTaskOptimizer(torch.optim.Optimizer):
    """Parameter groups named after the encoder and the tasks, with one learning rate for all."""

    def __init__(self, model: MultiTaskModel, lr: float):
        if not trainable(model.encoder):
            raise ValueError("The encoder must have a trainable parameter, found none.")
        groups = [{"name": "encoder", "params": list(trainable(model.encoder).values())}]
        for task, decoder in model.decoders.items():
            groups.append({"name": task, "params": list(trainable(decoder).values())})
        super().__init__(groups, defaults={"lr": lr})
        self.model = model

    @property
    def lr(self) -> float:
        """The learning rate, or the upper bound of the search: one for all groups, where schedulers put it."""
        rates = {group["name"]: float(group["lr"]) for group in self.param_groups}
        if len(set(rates.values())) > 1:
            raise ValueError(f"`lr` must be the same in all parameter groups, since one step size moves all: {rates}.")
        rate = next(iter(rates.values()))
        if not 0 <= rate < float("inf"):
            raise ValueError(f"`lr` must be finite and not negative, found {rate}; nothing has moved.")
        return rate

    @torch.no_grad()
    def _move(self, direction: list[Tensor], step_size: float | Tensor) -> None:
        """θ ← θ − η d for all groups at once; d has one tensor a parameter, in their order."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        if isinstance(step_size, Tensor):
            torch._foreach_sub_(parameters, torch._foreach_mul(direction, step_size))
        else:
            torch._foreach_add_(parameters, direction, alpha=-step_size)

    def _check_parameters(self) -> None:
        """Raise where parameters have been frozen, unfrozen or exchanged since the optimizer was made."""
        modules = (self.model.encoder, *self.model.decoders.values())
        now = {id(parameter) for module in modules for parameter in trainable(module).values()}
        known = {id(parameter) for group in self.param_groups for parameter in group["params"]}
        if now != known:
            raise ValueError(
                f"The model must keep its {len(known)} trainable parameters, found {len(now - known)} new and "
                f"{len(known - now)} gone; make a new optimizer after freezing or unfreezing any. Nothing has moved."
            )

    def __getstate__(self) -> dict:
        """Copies and pickles carry the model along; torch's own keep the groups and the state alone."""
        return super().__getstate__() | {"model": self.model}


class MultiObjectiveOptimizer(MultiTaskOptimizer):
    """One `step` for the four corners; they differ in `space` and `line_search` alone."""

    def __init__(
        self,
        model: MultiTaskModel,
        lr: float,
        direction: str | Direction,
        space,
        line_search,
        on_failure: str = "floor",
        wait: bool = True,
        match_gain: bool = False,
    ):
        if on_failure not in ("floor", "skip", "raise"):
            raise ValueError(f"`on_failure` must be 'floor', 'skip' or 'raise', found {on_failure!r}.")
        parallel = getattr(line_search, "parallel", None) is not None
        if parallel and not isinstance(space, LatentSpace):
            raise ValueError("`Backtracking(parallel=...)` tries steps in latent space; use it with FBLS.")
        if not wait and (on_failure == "raise" or line_search.needs_trials and not parallel):
            raise ValueError(
                "`wait=False` needs a step that the device can take alone: `Backtracking(parallel=...)` and an "
                f"`on_failure` of 'floor' or 'skip', found {line_search} and {on_failure!r}."
            )
        line_search.check_bound(lr)
        super().__init__(model, lr)
        self.direction = get_direction(direction)
        self.space = space
        self.line_search = line_search
        self.on_failure = on_failure
        self.wait = wait
        self.match_gain = match_gain
        if getattr(line_search, "start", "bound") == "previous":
            self.param_groups[0]["previous_step"] = math.inf  # here, so that `state_dict` has it

    def __getstate__(self) -> dict:
        own = ("direction", "space", "line_search", "on_failure", "wait", "match_gain")
        return super().__getstate__() | {name: getattr(self, name) for name in own}

    @torch.enable_grad()
    def step(self, inputs, targets: dict[str, Tensor]) -> StepRecord:
        """One step on a batch; leaves the caller's `.grad` alone.

        Args:
            inputs: what the encoder takes.
            targets: task name -> target, as its loss takes it.

        Returns:
            `StepRecord`.

        Raises:
            ValueError: `targets` lacks a task, a loss is not a scalar, z carries no gradient, or the direction rule
                returned weights of the wrong shape, negative or NaN.
            TypeError: the encoder returned something other than one tensor.
            FloatingPointError: a loss or a gradient is NaN or infinite before the step.
            RuntimeError: the search failed and ``on_failure="raise"``.
        """
        self._check_parameters()
        batch = Evaluation(self.model, inputs, targets, self.line_search.needs_trials, check=self.wait)
        gradients = self.space.gradients(batch)  # (T, n)
        gramian = compute_gramian(gradients)  # (T, T)
        own = batch.own_slopes()
        if self.wait:
            check_finite(self.model, gramian.diagonal() + own, "Squared gradients")
        weights, heard = weigh(self.direction, gramian, own)  # (T,), (T,)
        if self.wait:
            check_weights(self.direction, weights)
        slopes = Slopes(own=own, shared=gramian @ weights)
        stationary = is_stationary(gramian, weights, own, gradients.dtype)
        if self.wait and stationary:
            return self._record(batch, weights, slopes, SearchResult(0.0, 0, accepted=False), stationary=True)

        direction = weights.to(gradients) @ gradients  # (n,)
        shared = gain = None
        reach = direction  # how far a trial goes, per unit of step
        if self.match_gain:
            shared, gain = self._pull_back(batch, direction)
            rho = gain.nan_to_num()  # d_z = 0: only the decoders move
            slopes = Slopes(own, rho * slopes.shared)
            reach = rho.to(direction) * direction
        result = self._search(batch, reach, heard, slopes)
        batch.trial_buffers.clear()  # the encoder's backward needs the room
        if not self.wait:
            result = result._replace(step_size=(~stationary).double() * result.step_size)
        elif result.step_size == 0:
            return self._record(batch, weights, slopes, result)
        if shared is None:
            shared, gain = self._pull_back(batch, direction)
        self._move([*shared, *chain.from_iterable(batch.own_gradients)], result.step_size)
        stationary = False if self.wait else stationary
        return self._record(batch, weights, slopes, result, gain, stationary)

    def _pull_back(self, batch: Evaluation, direction: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """d_sh, one tensor a parameter of the encoder, and the gain of the latent methods."""
        shared = self.space.shared_direction(batch, direction)
        if not isinstance(self.space, LatentSpace):
            return shared, None
        pulled = squared_norm(shared, batch.losses)
        if self.wait:
            check_pulled(pulled)
        return shared, pulled / squared_norm([direction], batch.losses)

    def _search(self, batch: Evaluation, direction: Tensor, heard: Tensor, slopes: Slopes) -> SearchResult:
        """The line search over the tasks that are heard; what to do when it fails is decided here too."""
        if self.wait:
            chosen = heard.nonzero().squeeze(1)
        else:  # of a length that the host knows: another task stands in for one that is not heard
            chosen = torch.where(heard, torch.arange(len(heard), device=heard.device), heard.int().argmax())
        slopes = Slopes(slopes.own[chosen], slopes.shared[chosen])
        phi = Trials(self.space, batch, direction, chosen)
        group = self.param_groups[0]
        memory = {"previous": group["previous_step"]} if "previous_step" in group else {}
        result = self.line_search(phi, batch.losses[chosen], slopes, self.lr, **memory)
        if self.wait and isinstance(result.step_size, Tensor):
            step_size, accepted = torch.stack([result.step_size, result.accepted.double()]).tolist()
            result = SearchResult(step_size, result.trials, bool(accepted))
        if memory:
            group["previous_step"] = _select(result.accepted, result.step_size, math.inf)
        if self.on_failure == "skip":
            result = result._replace(step_size=_select(result.accepted, result.step_size, 0.0))
        elif self.on_failure == "raise" and not result.accepted:
            raise RuntimeError(f"The line search failed: {search_failure(result, slopes)}; nothing has moved.")
        return result

    @staticmethod
    def _record(batch, weights, slopes, result, gain=None, stationary=False) -> StepRecord:
        return StepRecord(
            losses=batch.losses,
            weights=weights,
            slopes=slopes.total,
            **result._asdict(),
            stationary=stationary,
            gain=gain,
            passes=batch.passes,
        )


def _select(condition: bool | Tensor, value: float | Tensor, otherwise: float) -> float | Tensor:
    """``value if condition else otherwise``, on the device where the condition is there."""
    if isinstance(condition, Tensor):
        return torch.where(condition, value, otherwise)
    return value if condition else otherwise
