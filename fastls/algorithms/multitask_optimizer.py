"""The step that all methods share: evaluate a batch, weigh the task gradients, search or not, move.

`CommonDirectionOptimizer` takes a space and a line search: the four algorithms differ in these two only.
`fastls.algorithms.optimizers` defines the four.
"""

import math
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import torch
from torch import Tensor

from fastls.algorithms.directions import Direction, get_direction
from fastls.algorithms.evaluation.checks import compare_trial_at_zero, compare_with_backward
from fastls.algorithms.functional import STATIONARY, CommonDirection, find_direction, pose_search
from fastls.algorithms.line_search import LineSearch, SearchResult, search_failure
from fastls.algorithms.spaces import Evaluation, LatentSpace, Passes, Space, check_encoder_gradient, squared_norm
from fastls.models.multitask import MultiTaskModel
from fastls.models.parts import check_parts, trainable


@dataclass(frozen=True)
class StepRecord:
    r"""What happened in one step. T-vectors are in the order of ``model.tasks``. `AdamFBLS` defines other slopes and ρ.

    Attributes:
        losses: (T,), the losses before the step.
        weights: (T,), alpha; zero for a task without a gradient in this batch, see `find_active`.
        slopes: (T,) float64, ‖∂L_t/∂θ_t‖² + (Gα)_t, the predicted decrease per unit of step; ρ(Gα)_t replaces (Gα)_t
            with ``match_gain=True``. None for `EqualWeight`.
        step_size: η that was taken; 0 if nothing moved.
        trials: evaluations of the losses by the line search.
        accepted: whether the test held at `step_size`; always true for constant steps, and if a schedule has lowered
            `lr` to the floor of the search or below: then `step_size` and `trials` are 0.
        stationary: the batch was Pareto stationary up to rounding; nothing moved.
        gain: ρ = ‖Jᵀd_z‖² / ‖d_z‖²: to first order the step moves z by −ηρ d_z along d_z. NaN if d_z = 0. None for
            methods that are not latent, and if nothing moved; in `AdamFBLS` only if the batch was stationary.
        passes: encoder and decoder passes of this step.
    """

    losses: Tensor
    weights: Tensor
    slopes: Tensor | None
    step_size: float
    trials: int
    accepted: bool
    stationary: bool
    gain: Tensor | None
    passes: Passes


class MultiTaskOptimizer(torch.optim.Optimizer):
    """Parameter groups named after the encoder and the tasks, with one learning rate for all.

    Every group has a ``previous_step``: the last step that a search accepted, or ∞ if there is none. So a `state_dict`
    of any method but AdamFBLS can be loaded into any other. A warm start goes on from ``previous_step``, or begins at
    the bound if it is ∞; other searches ignore it.
    """

    compared: frozenset[str] = frozenset()  # tasks whose gradients were compared with an ordinary backward, once each
    options: ClassVar[tuple[str, ...]] = ()  # names of a subclass's own attributes, which copies keep

    def __init__(self, model: MultiTaskModel, lr: float, previous_step: float = math.inf):
        check_parts(model)
        groups = [{"name": "encoder", "params": list(trainable(model.encoder).values())}]
        groups += [{"name": task, "params": list(trainable(head).values())} for task, head in model.heads.items()]
        super().__init__(groups, defaults={"lr": lr, "previous_step": previous_step})
        self.model = model

    def load_state_dict(self, state_dict: dict) -> None:
        """As torch's; ValueError for a state of AdamFBLS in another method, the other way round, or of no optimizer."""
        if "param_groups" not in state_dict:
            raise ValueError(
                f"`{type(self).__name__}` must load a state with `param_groups`, found {sorted(state_dict)}: that of "
                "another kind of optimizer. Load the model alone."
            )
        groups = (state_dict["param_groups"], self.param_groups)
        theirs, ours = (any("metric" in group for group in some) for some in groups)
        if theirs != ours:
            raise ValueError(
                f"`{type(self).__name__}` must load a state {'of AdamFBLS' if ours else 'without a metric'}, found "
                f"one {'of AdamFBLS' if theirs else 'without'}: `lr` means another thing there. Load the model alone."
            )
        super().load_state_dict(state_dict)

    def __setstate__(self, state: dict) -> None:
        """Called for copies, for pickles and by `load_state_dict`, whose groups may lack a ``previous_step``."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("previous_step", self.defaults["previous_step"])

    @property
    def lr(self) -> float:
        """The learning rate, or the upper bound of the search: the same in all groups, where schedulers change it."""
        rates = {group["name"]: float(group["lr"]) for group in self.param_groups}
        if len(set(rates.values())) > 1:
            raise ValueError(f"`lr` must be the same in all parameter groups, since one step size moves all: {rates}.")
        rate = rates["encoder"]
        if not 0 <= rate < math.inf:
            raise ValueError(f"`lr` must be finite and not negative, found {rate}; nothing has moved.")
        return rate

    @torch.no_grad()
    def _move(self, direction: list[Tensor], step_size: float) -> None:
        """θ ← θ − η d for all groups at once; d has one tensor per parameter, in the same order."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        torch._foreach_add_(parameters, direction, alpha=-step_size)

    def _check(self, inputs, targets: dict[str, Tensor]) -> None:
        """Raise if parameters have been frozen, unfrozen or replaced since the optimizer was made.

        Before the first step, raise also if the model breaks the contract: see `compare_with_backward`.
        """
        now = {id(p) for part in (self.model.encoder, *self.model.heads.values()) for p in trainable(part).values()}
        known = {id(parameter) for group in self.param_groups for parameter in group["params"]}
        if now != known:
            raise ValueError(
                f"The model must keep its {len(known)} trainable parameters, found {len(now - known)} new and "
                f"{len(known - now)} gone; make a new optimizer after freezing or unfreezing any. Nothing has moved."
            )
        self.model.check_decoders()
        if not self.compared:
            self.compared = frozenset(compare_with_backward(self.model, inputs, targets))

    def __getstate__(self) -> dict:
        """Copies and pickles keep the model and the options too; torch's own method keeps only groups and state."""
        return super().__getstate__() | {name: getattr(self, name) for name in ("model", *self.options)}


class CommonDirectionOptimizer(MultiTaskOptimizer):
    """The step along d = Σ α_t g_t. The four algorithms differ in `space` and `line_search` alone."""

    compared_mode: bool | None = None  # `model.training` when φ(0) was last compared with the losses
    options = ("direction", "space", "line_search", "on_failure", "match_gain")

    def __init__(
        self,
        model: MultiTaskModel,
        lr: float,
        direction: str | Direction,
        space: Space,
        line_search: LineSearch,
        on_failure: str = "floor",
        match_gain: bool = False,
        previous_step: float = math.inf,
    ):
        if on_failure not in ("floor", "skip", "raise"):
            raise ValueError(f"`on_failure` must be 'floor', 'skip' or 'raise', found {on_failure!r}.")
        line_search.check_bound(lr)
        super().__init__(model, lr, previous_step)
        self.direction = get_direction(direction)
        self.space, self.line_search = space, line_search
        self.on_failure, self.match_gain = on_failure, match_gain

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
            TypeError: the encoder returned no tensor.
            FloatingPointError: a loss or a gradient is NaN or infinite before the step.
            RuntimeError: the search failed and ``on_failure="raise"``.
        """
        self._check(inputs, targets)
        replayable, runs_encoder = self.line_search.needs_trials, self.space.runs_encoder
        batch = Evaluation(self.model, inputs, targets, replayable, spread=True, runs_encoder=runs_encoder)
        if batch.labelled - self.compared:  # the first label of a task: its paths have not been seen
            self.compared |= compare_with_backward(self.model, inputs, targets)
        with batch.in_full_precision():
            found = find_direction(self.space, self.direction, batch)
            if replayable and self.compared_mode != self.model.training:
                compare_trial_at_zero(self.space, batch, found.direction)
                self.compared_mode = self.model.training  # compared again when the caller switches the mode
            return self._record(batch, found, STATIONARY) if found.stationary else self._follow(batch, found)

    def _follow(self, batch: Evaluation, found: CommonDirection) -> StepRecord:
        """Search along d and move; `AdamFBLS` replaces this part of a step."""
        shared, gain, tried = None, None, found
        if self.match_gain:
            shared, gain = self._pull_back(batch, found.direction)
            tried = found.scaled(gain)
        result = self._search(batch, tried)
        batch.trial_buffers.clear()  # the encoder's backward needs the memory
        if result.step_size == 0:
            return self._record(batch, tried, result)
        if shared is None:
            shared, gain = self._pull_back(batch, found.direction)
        self._move([*shared, *chain.from_iterable(batch.own_gradients)], result.step_size)
        return self._record(batch, tried, result, gain)

    def _pull_back(self, batch: Evaluation, direction: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """The encoder's direction d_sh, one tensor per parameter, and the gain, or None in parameter space."""
        shared = self.space.shared_direction(batch, direction)
        if not isinstance(self.space, LatentSpace):
            return shared, None
        squared_length = squared_norm(shared, batch.losses)
        check_encoder_gradient(squared_length)
        return shared, squared_length / batch.squared_length(direction)

    def _search(self, batch: Evaluation, tried: CommonDirection) -> SearchResult:
        """Run the line search over the active tasks, and apply `on_failure` if it fails."""
        phi, losses, slopes = pose_search(self.space, batch, tried)
        group = self.param_groups[0]
        result = self.line_search(phi, losses, slopes, self.lr, group["previous_step"])
        if result.step_size:
            group["previous_step"] = result.step_size if result.accepted else math.inf
        if result.accepted or self.on_failure == "floor":
            return result
        if self.on_failure == "raise":
            raise RuntimeError(f"The line search failed: {search_failure(result, slopes)}; nothing has moved.")
        return result._replace(step_size=0.0)

    def _record(self, batch: Evaluation, tried: CommonDirection, result: SearchResult, gain=None) -> StepRecord:
        losses = batch.losses
        weights, slopes = tried.weights.to(losses.device), tried.slopes.total.to(losses.device)
        return StepRecord(losses, weights, slopes, *result, tried.stationary, gain, batch.passes)
