r"""The layer beneath `step`: a direction in latent space, and a search along it, for a training loop of your own.

`step` of the optimizers uses `find_direction` and `pose_search`. `latent_backward` and `latent_line_search` use these
too, with an ordinary ``z.backward(d_z)`` between them: it fills `.grad` and calls hooks, so any optimizer can step.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastls.algorithms.directions import Direction, get_direction, is_stationary, weigh
from fastls.algorithms.evaluation.checks import check_paths, compare_trial_at_zero
from fastls.algorithms.line_search import Backtracking, LineSearch, SearchResult, Slopes
from fastls.algorithms.spaces import Evaluation, LatentSpace, Space, Trials, check_finite, squared_norm
from fastls.models.multitask import MultiTaskModel
from fastls.models.parts import check_parts


@dataclass(frozen=True)
class CommonDirection:
    """d = Σ α_t g_t of a batch, (n,), and what it was made from; (T,) `weights` and `slopes` are on the host."""

    direction: Tensor
    weights: Tensor
    active: Tensor
    slopes: Slopes
    stationary: bool

    def scaled(self, gain: Tensor) -> "CommonDirection":
        """ρd and the slopes along ρd: to first order, the encoder's step moves z by −ηρd along d."""
        rho = gain.cpu().nan_to_num()  # NaN means d_z = 0: only the decoders move
        slopes = Slopes(self.slopes.own, rho * self.slopes.shared)
        return replace(self, direction=rho.to(self.direction) * self.direction, slopes=slopes)


STATIONARY = SearchResult(0.0, trials=0, accepted=False)  # nothing was searched, and nothing moved


def find_direction(space: Space, rule: Direction, batch: Evaluation) -> CommonDirection:
    """Weigh the gradients of a space; see `StepRecord` for the parts of the result."""
    gradients = space.gradients(batch)  # (T, n)
    both = torch.cat([space.gramian(batch, gradients), batch.own_slopes()[None]]).cpu()  # to the host in one copy
    gramian, own = both[:-1], both[-1]  # (T, T), (T,)
    check_finite(batch.model, gramian.diagonal() + own, "Squared gradients")
    weights, active = weigh(rule, gramian, own)  # (T,), (T,)
    weights = batch.ranks.agree(weights)
    stationary = bool(is_stationary(gramian, weights, own, gradients.dtype))
    direction = weights.to(gradients) @ gradients  # (n,)
    return CommonDirection(direction, weights, active, Slopes(own, gramian @ weights), stationary)


def pose_search(space: Space, batch: Evaluation, found: CommonDirection) -> tuple[Trials, Tensor, Slopes]:
    """φ, the losses and the slopes of the active tasks: the input of a line search."""
    numbers = found.active.nonzero().squeeze(1).tolist()
    slopes = Slopes(*(part[numbers] for part in found.slopes))
    return Trials(space, batch, found.direction, numbers), batch.losses.cpu()[numbers], slopes


@dataclass(frozen=True)
class LatentStep:
    """What `latent_backward` found: `losses`, `weights`, `slopes`, `stationary` and `gain` are those of `StepRecord`.

    The object holds the batch, for `latent_line_search`: delete it before the next batch, to free memory.
    """

    losses: Tensor
    weights: Tensor
    slopes: Tensor
    stationary: bool
    gain: Tensor | None
    batch: Evaluation
    found: CommonDirection
    versions: list[int]
    accumulated: bool


@torch.enable_grad()
def latent_backward(
    model: MultiTaskModel, z, targets: dict, direction: str | Direction = "mgda", inputs=None
) -> LatentStep:
    r"""Add ∂L_t/∂θ_t to the `.grad` of decoder t, and (∂z/∂θ_sh)ᵀ d_z, d_z = Σ α_t ∂L_t/∂z, to that of the encoder.

    A step of ``torch.optim.SGD`` then equals `MGDAUB`; with the step size of `latent_line_search` it equals `FBLS`.
    Runs T decoders forward and backward, then ``z.backward(d_z)``. If z is a leaf, ``z.grad`` receives d_z.

    Args:
        model: gives decoders and losses, and the encoder's trainable parameters for the gain.
        z: the result of your own call ``model.encoder(inputs)``, a tensor or a tree.
        targets: task name -> target.
        direction: as for `FBLS`.
        inputs: the batch, for decoders that ask for it.

    Returns:
        `LatentStep`; its `gain` is None where no gradient reached the encoder of the model.

    Raises:
        FloatingPointError: a loss or a gradient of a loss is NaN or infinite; no `.grad` has changed.
        ValueError, TypeError: the model does not fit, as for an optimizer.
        NotImplementedError: z is a leaf, and the model is spread over processes.

    The first call refuses losses that reach the encoder beside z. To compare the gradients too, as ``step`` does, call
    `compare_with_backward` once before the loop.

    Example:
        >>> from fastls.models.lenet import lenet
        >>> model, inputs = lenet(), torch.rand(4, 1, 28, 28)
        >>> mover = torch.optim.AdamW(model.parameters())
        >>> found = latent_backward(model, model.encoder(inputs), dict.fromkeys(model.tasks, torch.arange(4)))
        >>> mover.step()
        >>> found.weights.shape
        torch.Size([2])
    """
    first = not getattr(model, "paths_checked", False)
    if first:
        check_parts(model)
    accumulated = any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in model.parameters())
    batch = Evaluation(model, inputs, targets, replayable=True, z=z, spread=True)
    if first:
        check_paths(batch)
        model.paths_checked = bool(batch.labelled)
    with batch.in_full_precision():
        found = find_direction(LatentSpace(), get_direction(direction), batch)
        gain = _backward(batch, found.direction)
        for t in found.active.nonzero().squeeze(1).tolist():  # no zeros for other tasks: AdamW would decay them
            for parameter, gradient in zip(batch.head_parameters[t].values(), batch.own_gradients[t], strict=True):
                parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
    slopes, weights = found.slopes.total.to(batch.losses.device), found.weights.to(batch.losses.device)
    seen = (batch.losses, weights, slopes, found.stationary, gain)
    return LatentStep(*seen, batch, found, _versions(batch), accumulated)


def _versions(batch: Evaluation) -> list[int]:
    """torch's version counters of the decoders' parameters: each change of a parameter raises its counter."""
    return [parameter._version for parameters in batch.head_parameters for parameter in parameters.values()]


def _backward(batch: Evaluation, direction: Tensor) -> Tensor | None:
    """Run ``z.backward(d_z)``; returns the gain, from what this backward adds to `.grad`. An error adds nothing."""
    if batch.ranks.group is not None and batch.z.tensors[0].is_leaf:
        raise NotImplementedError("z must not be a leaf with several processes: nothing would add up their gradients.")
    held = [(parameter, parameter.grad) for parameter in batch.encoder_parameters.values()]
    for parameter, _ in held:
        parameter.grad = None
    try:
        torch.autograd.backward(batch.z.tensors, batch.z.split(direction))
        reached = [(parameter, before) for parameter, before in held if parameter.grad is not None]
        added = batch.ranks.sum([parameter.grad for parameter, _ in reached])
    finally:
        for parameter, before in held:
            parameter.grad = before
    for (parameter, before), gradient in zip(reached, added, strict=True):
        parameter.grad = gradient if before is None else before + gradient
    return squared_norm(added, batch.losses) / batch.squared_length(direction) if added else None


def latent_line_search(
    step: LatentStep, lr_ub: float = 1.0, line_search: LineSearch | None = None, previous: float = math.inf
) -> SearchResult:
    r"""The test (6) of `FBLS` along z − η d_z and θ_t − η ∂L_t/∂θ_t: decoder passes only; nothing moves.

    The step size η that is found is for ``θ ← θ − η θ.grad``: use it as `lr` of `torch.optim.SGD` without momentum.

    Args:
        step: what `latent_backward` returned.
        lr_ub: upper bound of the step; the first trial, unless the search has a warm start.
        line_search: a `LineSearch`; None for ``Backtracking()``.
        previous: the last accepted step, for a search with a warm start.

    Returns:
        `SearchResult`; a step of 0 on a stationary batch.

    Raises:
        ValueError: the decoders have moved since `latent_backward`, or `.grad` held something before it.

    Example:
        >>> from fastls.models.lenet import lenet
        >>> model, inputs = lenet(), torch.rand(4, 1, 28, 28)
        >>> found = latent_backward(model, model.encoder(inputs), dict.fromkeys(model.tasks, torch.arange(4)))
        >>> 0 < latent_line_search(found).step_size <= 1
        True
    """
    batch, found, model = step.batch, step.found, step.batch.model
    if step.versions != _versions(batch):
        raise ValueError("`latent_line_search` must be called before the parameters of the decoders move.")
    if step.accumulated:
        raise ValueError(
            "`latent_backward` must find no `.grad` for `latent_line_search` to follow, found one: θ.grad is then "
            "another step than the search would test. Call `zero_grad()`; micro-batches cannot be searched over."
        )
    if found.stationary:
        return STATIONARY
    with batch.in_full_precision():
        if model.compared_mode != model.training:
            compare_trial_at_zero(LatentSpace(), batch, found.direction)
            model.compared_mode = model.training  # compared again when the caller switches the mode
        return (line_search or Backtracking())(*pose_search(LatentSpace(), batch, found), lr_ub, previous)
