"""The contract between a network and the algorithms: one shared encoder, one decoder and one loss per task.

Hard parameter sharing, after Caruana (1997) and Figure 2 of Filatov and Merkulov (2021).
"""

from collections.abc import Callable, Mapping

from torch import Tensor, nn


class MultiTaskModel(nn.Module):
    r"""L_t(θ_sh, θ_t) = ℓ_t(f_t(z(x, θ_sh), θ_t), y_t) for t = 1..T.

    Args:
        encoder: module with ``encoder(inputs) -> z``, one tensor of any shape (the latent representation).
        decoders: task name -> module with ``decoder(z) -> output``. Task names are valid module names.
        losses: task name -> callable ``loss(output, target) -> scalar``, reduced by the mean over the batch.

    Raises:
        ValueError: no task at all, or decoders and losses that do not name the same tasks.

    Example:
        >>> import torch.nn.functional as F
        >>> model = MultiTaskModel(
        ...     nn.Linear(8, 4),
        ...     decoders={"left": nn.Linear(4, 10), "right": nn.Linear(4, 10)},
        ...     losses={"left": F.cross_entropy, "right": F.cross_entropy},
        ... )
        >>> model.tasks
        ('left', 'right')
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoders: Mapping[str, nn.Module],
        losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
    ):
        super().__init__()
        if not decoders:
            raise ValueError("`decoders` must name at least one task, found none.")
        if set(decoders) != set(losses):
            raise ValueError(
                f"`decoders` and `losses` must name the same tasks, found {sorted(decoders)} and {sorted(losses)}."
            )
        self.encoder = encoder
        self.decoders = nn.ModuleDict(decoders)
        self.losses = dict(losses)
        # So that the weights of a loss follow the model to its device.
        self.loss_modules = nn.ModuleDict({task: loss for task, loss in losses.items() if isinstance(loss, nn.Module)})

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names in the order of the decoders: the order of every T-vector in this package."""
        return tuple(self.decoders)

    def forward(self, inputs) -> dict[str, Tensor]:
        """Outputs of all decoders, by task: what evaluation and prediction use."""
        z = self.encoder(inputs)
        return {task: decoder(z) for task, decoder in self.decoders.items()}


def task_loss(model: MultiTaskModel, task: str, output, targets: Mapping) -> Tensor:
    """The loss of a task, checked to be a scalar tensor."""
    loss = model.losses[task](output, targets[task])
    if not isinstance(loss, Tensor) or loss.dim() != 0:
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"The loss of task {task!r} must be a scalar tensor, found {found}; reduce it by its mean.")
    return loss


def check_targets(model: MultiTaskModel, targets: Mapping) -> None:
    """Raise unless `targets` maps every task to a target."""
    if not isinstance(targets, Mapping):
        raise TypeError(f"`targets` must map each task to its target, found {type(targets).__name__}.")
    missing = [task for task in model.tasks if task not in targets]
    if missing:
        raise ValueError(f"`targets` must hold one entry a task, found none for {missing}; given: {sorted(targets)}.")


def check_latent(z: Tensor) -> None:
    """Raise unless z is one tensor that carries a gradient."""
    if not isinstance(z, Tensor):
        raise TypeError(f"`encoder(inputs)` must return one tensor z, found {type(z).__name__}.")
    if not z.requires_grad:
        raise ValueError(
            "`encoder(inputs)` must carry a gradient, found z.requires_grad=False; "
            "does the encoder detach its output or run under no_grad?"
        )
