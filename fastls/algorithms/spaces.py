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
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastls.algorithms.snapshot import Snapshot
from fastls.models.multitask import MultiTaskModel, check_latent, check_targets, task_loss


@dataclass
class Passes:
    """Passes through the encoder, and through decoders (T of them make one pass of every task), counted as they run."""

    encoder_forward: int = 0
    encoder_backward: int = 0
    decoder_forward: int = 0
    decoder_backward: int = 0


class Evaluation:
    r"""A model on a batch: z, the T losses, ∂L_t/∂z and ∂L_t/∂θ_t, in one backward of the summed losses.

    Every decoder reads its own detached copy of z, so one backward leaves ∂L_t/∂z on copy t and, since no other loss
    touches it, the unscaled ∂L_t/∂θ_t on decoder t. The encoder's graph stays alive for the backward of the space.

    With `replayable`, the snapshots that trials start from are kept.

    Raises:
        FloatingPointError: a loss is NaN or infinite; for other errors, see `fastls.models.multitask`.
    """

    def __init__(self, model: MultiTaskModel, inputs, targets: dict[str, Tensor], replayable: bool):
        check_targets(model, targets)
        self.model, self.inputs, self.targets = model, inputs, targets
        self.passes = Passes()
        self.encoder_parameters = trainable(model.encoder)
        self.decoder_parameters = [trainable(decoder) for decoder in model.decoders.values()]
        device = next(iter(self.encoder_parameters.values())).device
        self.encoder_start = Snapshot(model.encoder, device) if replayable else None
        self.z = self.encode()
        self.decoder_starts: list[Snapshot] = []
        self._evaluate_decoders(replayable)
        # Where trials put θ_t − η ∂L_t/∂θ_t: made once, since fresh memory costs more than the sum, shared by decoders
        # of equal shapes, and let go of after the search.
        self.trial_buffers: dict[tuple, Tensor] = {}

    def encode(self) -> Tensor:
        """z(x, θ_sh), checked to be one tensor that carries a gradient."""
        z = self.model.encoder(self.inputs)
        self.passes.encoder_forward += 1
        check_latent(z)
        return z

    def _evaluate_decoders(self, replayable: bool) -> None:
        copies = [self.z.detach().requires_grad_() for _ in self.model.tasks]
        losses = []
        for (task, decoder), copy in zip(self.model.decoders.items(), copies, strict=True):
            if replayable:
                self.decoder_starts.append(Snapshot(decoder, self.z.device))
            losses.append(task_loss(self.model, task, decoder(copy), self.targets))
        self.passes.decoder_forward += len(losses)
        self.losses = torch.stack([loss.detach() for loss in losses])
        check_finite(self.model, self.losses, "Losses")
        owned = [list(parameters.values()) for parameters in self.decoder_parameters]
        leaves = copies + [parameter for parameters in owned for parameter in parameters]
        gradients = torch.autograd.grad(sum(losses), leaves, allow_unused=True, materialize_grads=True)
        self.passes.decoder_backward += len(losses)
        self.latent_gradients = gradients[: len(copies)]
        rest = iter(gradients[len(copies) :])
        self.own_gradients = [[next(rest) for _ in parameters] for parameters in owned]

    def own_slopes(self) -> Tensor:
        """(T,) float64: ‖∂L_t/∂θ_t‖²."""
        return torch.stack([squared_norm(gradients, self.losses) for gradients in self.own_gradients])

    def pull_back(self, latent: Tensor, last: bool) -> list[Tensor]:
        """(∂z/∂θ_sh)ᵀ latent, one tensor a parameter: one encoder backward; `last` lets go of the encoder's graph."""
        gradients = torch.autograd.grad(
            self.z,
            list(self.encoder_parameters.values()),
            grad_outputs=latent.view_as(self.z),
            retain_graph=not last,
            allow_unused=True,
            materialize_grads=True,
        )
        self.passes.encoder_backward += 1
        return list(gradients)

    def trial_losses(self, z: Tensor, eta: float) -> Tensor:
        """(T,) losses of the decoders at θ_t − η ∂L_t/∂θ_t, reading z."""
        return torch.stack([self.trial_loss(t, z, eta) for t in range(len(self.model.tasks))])

    @torch.no_grad()
    def trial_loss(self, t: int, z: Tensor, eta: float) -> Tensor:
        """The loss of task number t at θ_t − η ∂L_t/∂θ_t, reading z."""
        parameters, start = self.decoder_parameters[t], self.decoder_starts[t]
        trial = {name: self._trial_buffer(name, parameter) for name, parameter in parameters.items()}
        for parameter, gradient, out in zip(parameters.values(), self.own_gradients[t], trial.values(), strict=True):
            torch.add(parameter, gradient, alpha=-eta, out=out)
        self.passes.decoder_forward += 1
        with start.replay():
            return task_loss(self.model, self.model.tasks[t], start.call(trial, z), self.targets)

    def _trial_buffer(self, name: str, parameter: Tensor) -> Tensor:
        key = (name, parameter.shape, parameter.stride(), parameter.dtype)
        if key not in self.trial_buffers:
            self.trial_buffers[key] = torch.empty_like(parameter)
        return self.trial_buffers[key]


class Space:
    """A space by its vectors g_t, by z at a trial step, and by the way from its direction to the parameters."""

    def losses_at(self, evaluation: Evaluation, direction: Tensor, eta: float) -> Tensor:
        """(T,): L_t(z, θ_t − η ∂L_t/∂θ_t) with z as the step moves it."""
        return evaluation.trial_losses(self.latent_at(evaluation, direction, eta), eta)


class LatentSpace(Space):
    """g_t = ∂L_t/∂z, flattened over the whole batch. Trials cost decoder passes only."""

    def gradients(self, evaluation: Evaluation) -> Tensor:
        """(T, B·d): no pass at all, the decoders' backward has left them."""
        return torch.stack(evaluation.latent_gradients).flatten(1)

    def latent_at(self, evaluation: Evaluation, direction: Tensor, eta: float) -> Tensor:
        """z − η d_z: no pass."""
        return torch.add(evaluation.z.detach(), direction.view_as(evaluation.z), alpha=-eta)

    def shared_direction(self, evaluation: Evaluation, direction: Tensor) -> list[Tensor]:
        """d_sh = (∂z/∂θ_sh)ᵀ d_z: the one backward through the encoder."""
        return evaluation.pull_back(direction, last=True)


class ParameterSpace(Space):
    """g_t = ∂L_t/∂θ_sh. Holds one (T, P) buffer, P the encoder's size, allocated at the first step and reused.

    A step needs room for one more gradient, as it is copied into its row, and for the direction: (T + 2) P in all. No
    second copy of the T gradients is made.
    """

    def __init__(self):
        self.buffer: Tensor | None = None

    def gradients(self, evaluation: Evaluation) -> Tensor:
        """(T, P): T backwards through the encoder."""
        parameters = list(evaluation.encoder_parameters.values())
        shape = (len(evaluation.latent_gradients), sum(parameter.numel() for parameter in parameters))
        old, like = self.buffer, parameters[0]
        if old is None or old.shape != shape or old.device != like.device or old.dtype != like.dtype:
            self.buffer = like.new_empty(shape)
        last = shape[0] - 1
        for t, latent in enumerate(evaluation.latent_gradients):
            rows = evaluation.pull_back(latent, last=t == last)
            torch.cat([row.flatten() for row in rows], out=self.buffer[t])
        return self.buffer

    @torch.no_grad()
    def latent_at(self, evaluation: Evaluation, direction: Tensor, eta: float) -> Tensor:
        """z(x, θ_sh − η d_sh): one encoder forward."""
        parameters = move_parameters(evaluation.encoder_parameters, self.shared_direction(evaluation, direction), eta)
        evaluation.passes.encoder_forward += 1
        with evaluation.encoder_start.replay():
            return evaluation.encoder_start.call(parameters, evaluation.inputs)

    def shared_direction(self, evaluation: Evaluation, direction: Tensor) -> list[Tensor]:
        """d_sh cut to the shapes of the encoder's parameters: views, no pass."""
        parameters = evaluation.encoder_parameters.values()
        pieces = direction.split([parameter.numel() for parameter in parameters])
        return [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]


class Trials:
    """φ of a step: the losses of the active tasks, known by their numbers, at a trial step; or of some of them."""

    def __init__(self, space: Space, evaluation: Evaluation, direction: Tensor, numbers: list[int]):
        self.space, self.evaluation, self.direction, self.numbers = space, evaluation, direction, numbers
        self.latent: tuple[float, Tensor] | None = None  # the last η that `for_tasks` was asked for, and its z

    def __call__(self, eta: float) -> Tensor:
        """(T,)"""
        return self.space.losses_at(self.evaluation, self.direction, eta)[self.numbers]

    def for_tasks(self, eta: float, tasks: list[int]) -> Tensor:
        """(len(tasks),): φ_t(η) of these alone, numbered as in φ(η). z is moved once for several calls with one η."""
        if self.latent is None or self.latent[0] != eta:
            self.latent = None  # before the next one is made
            self.latent = eta, self.space.latent_at(self.evaluation, self.direction, eta)
        return torch.stack([self.evaluation.trial_loss(self.numbers[t], self.latent[1], eta) for t in tasks])


def trainable(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def move_parameters(parameters: dict[str, Tensor], gradients: list[Tensor], eta: float) -> dict[str, Tensor]:
    """θ − η g, in new tensors."""
    if not parameters:
        return {}
    tensors = torch._foreach_add([p.detach() for p in parameters.values()], gradients, alpha=-eta)
    return dict(zip(parameters, tensors, strict=True))


def squared_norm(tensors: list[Tensor], like: Tensor) -> Tensor:
    """Σ ‖·‖² as a float64 scalar on the device of `like`; zero for an empty list."""
    if not tensors:
        return like.new_zeros((), dtype=torch.float64)
    return torch.stack(torch._foreach_norm(tensors)).double().square().sum()


def check_finite(model: MultiTaskModel, values: Tensor, what: str) -> None:
    """Raise FloatingPointError unless all T values are finite."""
    found = zip(model.tasks, values.tolist(), strict=True)
    _refuse(f"{what} at the start of a step", {task: value for task, value in found if not math.isfinite(value)})


def check_encoder_gradient(squared_length: Tensor) -> None:
    """Raise FloatingPointError unless ‖(∂z/∂θ_sh)ᵀ d_z‖² is finite."""
    value = squared_length.item()
    _refuse("The encoder's gradient", {} if math.isfinite(value) else f"a squared length of {value}")


def _refuse(what: str, found) -> None:
    if found:
        raise FloatingPointError(
            f"{what} must be finite, found {found}; the parameters are as they were. "
            "A smaller `lr` or `lr_ub` may keep the training from diverging."
        )
