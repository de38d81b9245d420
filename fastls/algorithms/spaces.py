r"""Where a direction is formed and tried: the parameters of the encoder, or its output.

Both spaces start from the same evaluation of a batch: one encoder forward, one forward and one backward of every
decoder, for all tasks at once. They differ in the vector g_t that stands for a task, in how a trial step moves the
latent representation, and in how the direction reaches the encoder's parameters:

=================  ============================  =====================  ==============================
space              g_t                           trial                  step of θ_sh
=================  ============================  =====================  ==============================
`ParameterSpace`   ∂L_t/∂θ_sh, T backwards       z(x, θ_sh − η d_sh)    −η d_sh
`LatentSpace`      ∂L_t/∂z, already there        z − η d_z              −η (∂z/∂θ_sh)ᵀ d_z, 1 backward
=================  ============================  =====================  ==============================
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fastls.algorithms.directions import compute_gramian
from fastls.algorithms.evaluation.ranks import Ranks
from fastls.models.latent import Latent, flatten_gradients
from fastls.models.multitask import NO_LABEL, MultiTaskModel, check_targets
from fastls.models.parts import trainable, trainable_encoder
from fastls.models.trial_state import Snapshot


@dataclass
class Passes:
    """Counts of passes through the encoder and the decoders; a pass through the decoders of all tasks counts T."""

    encoder_forward: int = 0
    encoder_backward: int = 0
    decoder_forward: int = 0
    decoder_backward: int = 0


class Evaluation:
    r"""A model on a batch: z, the T losses, ∂L_t/∂z and ∂L_t/∂θ_t, in one backward of the summed losses.

    Every decoder reads its own detached copy of z. So one backward gives ∂L_t/∂z for copy t and the unscaled ∂L_t/∂θ_t
    for decoder t, which no other loss touches. The encoder's graph is kept for the backward of the space.

    `replayable` keeps the snapshots that trials start from; without `runs_encoder`, those of the decoders alone. If `z`
    is given, the encoder is not run here, and trials cannot run it either. With `spread`, the batch is that of all
    processes of the model.

    Raises:
        FloatingPointError: a loss is NaN or infinite; for other errors, see `fastls.models.multitask`.
    """

    def __init__(
        self, model: MultiTaskModel, inputs, targets: dict, replayable: bool, z=None, spread=False, runs_encoder=True
    ):
        check_targets(model, targets)
        self.model, self.inputs, self.targets = model, inputs, targets
        self.passes = Passes()
        self.encoder_parameters = trainable_encoder(model)
        self.head_parameters = [trainable(head) for head in model.heads.values()]
        device = next(iter(self.encoder_parameters.values())).device
        self.autocast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        self.ranks = Ranks(model.process_group if spread else None, inputs if z is None else z, device)
        kept = model.encoder if replayable and runs_encoder and z is None else None
        self.encoder_start = Snapshot(kept, device, model.draws_elsewhere)
        self.z = self.encode() if z is None else Latent(z)
        self.encoder_start.close()
        self.head_starts: list[Snapshot] = []
        self._evaluate_decoders(replayable)
        # Memory in which trials compute θ_t − η ∂L_t/∂θ_t. Allocated once, since an allocation costs more than the sum;
        # shared by decoders of equal shapes; released after the search.
        self.trial_buffers: dict[tuple, Tensor] = {}

    @property
    def rounding(self) -> float:
        """Relative rounding of the losses: that of the least precise of z, the losses and the caller's autocast."""
        dtypes = {self.losses.dtype, *(tensor.dtype for tensor in self.z.tensors), self.autocast} - {None}
        return max(torch.finfo(dtype).eps for dtype in dtypes)

    def encode(self) -> Latent:
        """z(x, θ_sh), checked to carry a gradient."""
        z = Latent(self.model.encoder(self.inputs))
        self.passes.encoder_forward += 1
        return z

    def _evaluate_decoders(self, replayable: bool) -> None:
        model, losses = self.model, []
        self.copies = [[leaf.detach().requires_grad_() for leaf in self.z.tensors] for _ in model.tasks]
        for head, copy in zip(model.heads.values(), self.copies, strict=True):
            self.head_starts.append(Snapshot(head if replayable else None, self.z.device, model.draws_elsewhere))
            losses.append(self.ranks.weigh(head(self.z.rebuild(copy), self.inputs, self.targets[head.task])))
            self.head_starts[-1].close()
        self.passes.decoder_forward += len(losses)
        self.losses = self.ranks.sum([torch.stack([loss.detach() for loss in losses])])[0]
        check_finite(model, self.losses, "Losses", NO_LABEL)
        self.task_losses = losses
        self.labelled = {task for task, loss in zip(model.tasks, losses, strict=True) if loss.requires_grad}
        owned = [list(parameters.values()) for parameters in self.head_parameters]
        leaves = [leaf for copy in self.copies for leaf in copy] + [parameter for some in owned for parameter in some]
        gradients = iter(differentiate(model, sum(losses), leaves))
        self.passes.decoder_backward += len(losses)
        by_task = [[next(gradients) for _ in copy] for copy in self.copies]
        self.latent_gradients = [list(of_leaf) for of_leaf in zip(*by_task, strict=True)]  # of each leaf, T of them
        own = iter(self.ranks.sum(list(gradients)))  # one message for all decoders
        self.own_gradients = [[next(own) for _ in parameters] for parameters in owned]

    def own_slopes(self) -> Tensor:
        """(T,) float64: ‖∂L_t/∂θ_t‖²."""
        return torch.stack([squared_norm(gradients, self.losses) for gradients in self.own_gradients])

    def squared_length(self, direction: Tensor) -> Tensor:
        """‖d_z‖² over the whole batch, a float64 scalar."""
        return self.ranks.sum([squared_norm([direction], self.losses)])[0]

    def pull_back(self, latent: list[Tensor], last: bool) -> list[Tensor]:
        """(∂z/∂θ_sh)ᵀ latent, one tensor per parameter: one encoder backward; `last` releases the encoder's graph."""
        outputs, parameters = self.z.tensors, list(self.encoder_parameters.values())
        gradients = torch.autograd.grad(
            outputs, parameters, latent, retain_graph=not last, allow_unused=True, materialize_grads=True
        )
        self.passes.encoder_backward += 1
        return self.ranks.sum(list(gradients))

    def trial_losses(self, tasks: Iterable[int], z, eta: float) -> Tensor:
        """(len(tasks),): losses of the tasks with these numbers, at this z and at θ_t − η ∂L_t/∂θ_t."""
        return self.ranks.sum([torch.stack([self._trial_loss(t, z, eta) for t in tasks])])[0]

    @torch.no_grad()
    def _trial_loss(self, t: int, z, eta: float) -> Tensor:
        parameters, start = self.head_parameters[t], self.head_starts[t]
        trial = {name: self._trial_buffer(name, parameter) for name, parameter in parameters.items()}
        for parameter, gradient, out in zip(parameters.values(), self.own_gradients[t], trial.values(), strict=True):
            torch.add(parameter, gradient, alpha=-eta, out=out)
        self.passes.decoder_forward += 1
        with start.replay(), self.as_called():
            return self.ranks.weigh(start.call(trial, z, self.inputs, self.targets[self.model.tasks[t]]))

    def as_called(self) -> AbstractContextManager:
        """The autocast of the caller's step: trials run in the same precision, but our own sums do not."""
        return nullcontext() if self.autocast is None else torch.autocast(self.z.device.type, dtype=self.autocast)

    def in_full_precision(self) -> AbstractContextManager:
        """Without the caller's autocast: for sums over gradients."""
        return nullcontext() if self.autocast is None else torch.autocast(self.z.device.type, enabled=False)

    def _trial_buffer(self, name: str, parameter: Tensor) -> Tensor:
        key = (name, parameter.shape, parameter.stride(), parameter.dtype)
        if key not in self.trial_buffers:
            self.trial_buffers[key] = torch.empty_like(parameter)
        return self.trial_buffers[key]


class Space:
    """A space defines the vectors g_t, z at a trial step, and how its direction becomes a step of the parameters."""

    runs_encoder: ClassVar[bool] = True  # whether a trial does

    def losses_at(self, evaluation: Evaluation, direction: Tensor, eta: float) -> Tensor:
        """(T,): L_t(z, θ_t − η ∂L_t/∂θ_t) with z as the step moves it."""
        return Trials(self, evaluation, direction, range(len(evaluation.losses)))(eta)

    def gramian(self, evaluation: Evaluation, gradients: Tensor) -> Tensor:
        """(T, T) of the whole batch."""
        return compute_gramian(gradients)


class LatentSpace(Space):
    """g_t = ∂L_t/∂z, flattened over the whole batch. Trials cost decoder passes only."""

    runs_encoder = False

    def gradients(self, evaluation: Evaluation) -> Tensor:
        """(T, B·d): no pass, since the decoders' backward has computed them."""
        return flatten_gradients(evaluation.latent_gradients)

    def gramian(self, evaluation: Evaluation, gradients: Tensor) -> Tensor:
        """(T, T): each rank keeps its part of ∂L_t/∂z; only the products are summed over ranks."""
        return evaluation.ranks.sum([compute_gramian(gradients)])[0]

    def latent_at(self, evaluation: Evaluation, direction: Tensor, eta: float):
        """z − η d_z: no pass."""
        return evaluation.z.moved(direction, eta)

    def shared_direction(self, evaluation: Evaluation, direction: Tensor) -> list[Tensor]:
        """d_sh = (∂z/∂θ_sh)ᵀ d_z: the one backward through the encoder."""
        return evaluation.pull_back(evaluation.z.split(direction), last=True)


class ParameterSpace(Space):
    """g_t = ∂L_t/∂θ_sh. Holds one (T, P) buffer, P the encoder's size, allocated at the first step and reused.

    A step also needs memory for one gradient, which is copied into its row, and for the direction: (T + 2) P in all.
    No second copy of the T gradients is made.
    """

    def __init__(self):
        self.buffer: Tensor | None = None

    def gradients(self, evaluation: Evaluation) -> Tensor:
        """(T, P): T backwards through the encoder."""
        parameters = list(evaluation.encoder_parameters.values())
        shape = (len(evaluation.model.tasks), sum(parameter.numel() for parameter in parameters))
        old, like = self.buffer, parameters[0]
        if old is None or old.shape != shape or old.device != like.device or old.dtype != like.dtype:
            self.buffer = like.new_empty(shape)
        for t in range(shape[0]):
            rows = evaluation.pull_back([of_leaf[t] for of_leaf in evaluation.latent_gradients], last=t == shape[0] - 1)
            torch.cat([row.flatten() for row in rows], out=self.buffer[t])
        return self.buffer

    @torch.no_grad()
    def latent_at(self, evaluation: Evaluation, direction: Tensor, eta: float):
        """z(x, θ_sh − η d_sh): one encoder forward."""
        held = evaluation.encoder_parameters
        steps = self.shared_direction(evaluation, direction)
        moved = torch._foreach_add([parameter.detach() for parameter in held.values()], steps, alpha=-eta)
        parameters = dict(zip(held, moved, strict=True))
        evaluation.passes.encoder_forward += 1
        with evaluation.encoder_start.replay(), evaluation.as_called():
            return evaluation.encoder_start.call(parameters, evaluation.inputs)

    def shared_direction(self, evaluation: Evaluation, direction: Tensor) -> list[Tensor]:
        """d_sh cut to the shapes of the encoder's parameters: views, no pass."""
        parameters = evaluation.encoder_parameters.values()
        pieces = direction.split([parameter.numel() for parameter in parameters])
        return [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]


class Trials:
    """φ of a step: the losses at a trial step, of the active tasks with these `numbers` or of some of them."""

    def __init__(self, space: Space, evaluation: Evaluation, direction: Tensor, numbers: Sequence[int]):
        self.space, self.evaluation, self.direction, self.numbers = space, evaluation, direction, numbers
        self.rounding, self.latent = evaluation.rounding, None  # latent: the last η that was asked for, and its z

    def __call__(self, eta: float) -> Tensor:
        """(len(numbers),): φ(η)."""
        return self.for_tasks(eta, range(len(self.numbers)))

    def for_tasks(self, eta: float, tasks: Iterable[int]) -> Tensor:
        """(len(tasks),): φ_t(η) of these tasks alone, numbered as in φ(η). Several calls with one η move z once."""
        if self.latent is None or self.latent[0] != eta:
            self.latent = None  # releases the old z before a new one is made
            self.latent = eta, self.space.latent_at(self.evaluation, self.direction, eta)
        return self.evaluation.trial_losses([self.numbers[t] for t in tasks], self.latent[1], eta)


def differentiate(model: MultiTaskModel, total: Tensor, leaves: list[Tensor]) -> Sequence[Tensor]:
    """∂total/∂leaf, zero where there is none. A rank without any label counts as a loss of zero.

    Raises:
        ValueError: no loss has a gradient, and there are no other ranks.
    """
    if total.requires_grad:
        return torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    if model.process_group is None:
        raise ValueError("Some loss must have a gradient, found none; does no task have a label in this batch?")
    return [torch.zeros_like(leaf) for leaf in leaves]


def squared_norm(tensors: list[Tensor], like: Tensor) -> Tensor:
    """Σ ‖·‖² as a float64 scalar on the device of `like`; zero for an empty list."""
    if not tensors:
        return like.new_zeros((), dtype=torch.float64)
    return torch.stack(torch._foreach_norm(tensors)).double().square().sum()


def check_finite(model: MultiTaskModel, values: Tensor, what: str, hint: str = "") -> None:
    """Raise FloatingPointError unless all T values are finite."""
    found = zip(model.tasks, values.tolist(), strict=True)
    _refuse(f"{what} at the start of a step", {task: value for task, value in found if not math.isfinite(value)}, hint)


def check_encoder_gradient(squared_length: Tensor) -> None:
    """Raise FloatingPointError unless ‖(∂z/∂θ_sh)ᵀ d_z‖² is finite."""
    value = squared_length.item()
    _refuse("The encoder's gradient", {} if math.isfinite(value) else f"a squared length of {value}")


def _refuse(what: str, found, hint: str = "") -> None:
    if found:
        raise FloatingPointError(
            f"{what} must be finite, found {found}; the parameters are as they were. "
            f"A smaller `lr` or `lr_ub` may keep the training from diverging. {hint}".rstrip()
        )
