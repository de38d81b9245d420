"""The contract between a network and the algorithms: one shared encoder, one decoder and one loss per task.

Hard parameter sharing, after Caruana (1997) and Figure 2 of Filatov and Merkulov (2021).
"""

import inspect
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves, tree_map

NO_LABEL = "A batch without a label of a task has a mean of nothing, which is NaN: let its loss return None then."


class TaskModules(nn.Module, Mapping):
    """Modules by task, like `torch.nn.ModuleDict`, but any string may be a name: torch refuses "type" or "a.b"."""

    __eq__, __hash__ = object.__eq__, object.__hash__  # those of a module, not of a mapping

    def __init__(self, modules: Mapping[str, nn.Module]):
        super().__init__()
        self.by_task = {}  # a plain dict; the modules are registered below, under names that torch accepts
        for number, (task, module) in enumerate(modules.items()):
            plain = task and "." not in task and not hasattr(self, task)
            name = task if plain else f"task {number}"
            while not plain and name in modules:  # another task has this name
                name += "'"
            self.add_module(name, module)
            self.by_task[task] = name

    def __getitem__(self, task: str) -> nn.Module:
        return getattr(self, self.by_task[task])

    def __iter__(self):
        return iter(self.by_task)

    def __len__(self) -> int:
        return len(self.by_task)


class TaskHead(nn.Module):
    """(z, inputs, target) -> L_t, through the decoder and the loss of one task: what a trial runs.

    The parameters of a loss that is a module, a temperature for example, move with those of the decoder.
    """

    def __init__(self, task: str, decoder: nn.Module, losses: dict[str, Callable]):
        super().__init__()
        self.task, self.decoder, self.losses = task, decoder, losses
        self.loss = losses[task] if isinstance(losses[task], nn.Module) else None  # registered, if it is a module
        forward = getattr(decoder, "_orig_mod", decoder).forward  # torch.compile hides the parameters
        self.takes_inputs = "inputs" in check_decoder(task, inspect.signature(forward))
        # training mode -> whether the decoder changes z in place, known after its first run in this mode
        self.writes_latent: dict[bool, bool] = {}

    def decode(self, z, inputs):
        """The decoder's output. A decoder that changes z in place, such as nn.ReLU(inplace=True), gets a copy."""
        mode = self.decoder.training  # nn.Dropout(inplace=True) changes z in training mode only
        if self.writes_latent.get(mode, True):
            z = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, z)
        tensors = [leaf for leaf in tree_leaves(z) if isinstance(leaf, Tensor) and not leaf.is_inference()]
        versions = [leaf._version for leaf in tensors]
        output = self.decoder(z, inputs=inputs) if self.takes_inputs else self.decoder(z)
        if mode not in self.writes_latent and tensors:
            self.writes_latent[mode] = versions != [leaf._version for leaf in tensors]
        return output

    def forward(self, z, inputs, target) -> Tensor:
        """The loss, a scalar tensor; a zero without a gradient if the loss returns None, "no label in this batch".

        Raises:
            ValueError: the loss is neither a scalar tensor nor None.
        """
        loss = self.losses[self.task](self.decode(z, inputs), target)
        if loss is None:
            return next(leaf for leaf in tree_leaves(z) if isinstance(leaf, Tensor)).new_zeros((), dtype=torch.float32)
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(
                f"The loss of task {self.task!r} must be a scalar tensor, found {found}; reduce it by its mean, and "
                "return None for a batch that has no label of this task."
            )
        return loss


class MultiTaskModel(nn.Module):
    r"""L_t(θ_sh, θ_t) = ℓ_t(f_t(z(x, θ_sh), θ_t), y_t) for t = 1..T.

    Args:
        encoder: module with ``encoder(inputs) -> z``, the latent representation: a tensor of any shape, or a tuple,
            list, dict or Hugging Face output that holds tensors. Integers and constants in it stay as they are.
        decoders: task name -> module with ``decoder(z) -> output``. If its ``forward`` has a further parameter
            ``inputs``, it also gets the batch's inputs, for a mask or for lengths: ``decoder(z, inputs=inputs)``.
        losses: task name -> callable ``loss(output, target) -> scalar``, reduced by the mean over the batch. A loss may
            return None for a batch without a label of its task; the step then leaves this task out. If a loss is a
            module with trainable parameters, these move with its task.

    If every part with trainable parameters is wrapped in DistributedDataParallel, the model is spread over the
    processes: each rank reads its part of the batch, and every rank takes the step of the whole batch. The wrappers
    are removed and send no more gradients; the optimizers and `latent_backward` send them instead.

    Raises:
        ValueError: no task at all, decoders and losses that do not name the same tasks, or parts of which only some
            are wrapped.

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
        losses: Mapping[str, Callable[[Tensor, Tensor], Tensor | None]],
    ):
        super().__init__()
        if not decoders:
            raise ValueError("`decoders` must name at least one task, found none.")
        if not all(isinstance(task, str) for task in decoders):
            raise TypeError(f"The name of a task must be a string, found {list(decoders)}.")
        if set(decoders) != set(losses):
            raise ValueError(
                f"`decoders` and `losses` must name the same tasks, found {sorted(decoders)} and {sorted(losses)}."
            )
        modules = {task: loss for task, loss in losses.items() if isinstance(loss, nn.Module)}
        self.process_group = find_processes([encoder, *decoders.values(), *modules.values()])
        self.encoder = unwrap(encoder)
        decoders = {task: unwrap(decoder) for task, decoder in decoders.items()}
        self.decoders = TaskModules(decoders)
        self.losses = {task: unwrap(loss) for task, loss in losses.items()}
        # Registered, so that the weights of a loss follow the model to its device.
        self.loss_modules = TaskModules({task: self.losses[task] for task in modules})
        # Whether a pass draws from the generators of Python or NumPy; the first step of an optimizer finds out.
        self.draws_elsewhere = True
        # What the functional layer has checked: the paths of the losses, and φ(0) with this value of `training`.
        self.paths_checked, self.compared_mode = False, None
        # A plain dict registers nothing: parameters and state are those of encoder, decoders and losses, each once.
        self.heads = {task: TaskHead(task, decoder, self.losses) for task, decoder in decoders.items()}

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names in the order of the decoders: the order of every T-vector in this package."""
        return tuple(self.decoders)

    def forward(self, inputs) -> dict[str, Tensor]:
        """Outputs of all decoders, by task, for evaluation and prediction."""
        self.check_decoders()
        z = self.encoder(inputs)
        return {task: head.decode(z, inputs) for task, head in self.heads.items()}

    def check_decoders(self) -> None:
        """Raise if a decoder was exchanged: the optimizers would go on with the old one."""
        for task, head in self.heads.items():
            if head.decoder is not self.decoders[task]:
                raise ValueError(
                    f"The decoder of task {task!r} must be the one that the model was made with, found another. Make a "
                    "new MultiTaskModel, and a new optimizer, to exchange it."
                )


def check_decoder(task: str, signature: inspect.Signature) -> list[str]:
    """The parameters of a decoder's ``forward`` after z, but * and **; ValueError if it needs one not ``inputs``."""
    collect = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [name for name, parameter in list(signature.parameters.items())[1:] if parameter.kind not in collect]
    asked = [name for name in names if signature.parameters[name].default is inspect.Parameter.empty]
    if set(asked) - {"inputs"}:
        raise ValueError(
            f"The decoder of task {task!r} must have `forward(z)` or `forward(z, inputs)`, found that it asks for "
            f"{', '.join(asked)}. Call the batch `inputs`, and read from it what the decoder needs."
        )
    return names


def unwrap(part):
    """The module inside of DistributedDataParallel; any other part is returned as it is."""
    if not isinstance(part, DistributedDataParallel):
        return part
    part.require_backward_grad_sync = False  # as in its `no_sync`: else gradients would be added up twice
    return part.module


def find_processes(parts: list[nn.Module]):
    """The process group of parts wrapped in DistributedDataParallel, None where no part is.

    Raises:
        ValueError: a part with trainable parameters is not wrapped although another is, or groups differ.
    """
    wrapped = [part for part in parts if isinstance(part, DistributedDataParallel)]
    trained = [part for part in parts if any(parameter.requires_grad for parameter in part.parameters())]
    groups = {id(part.process_group): part.process_group for part in wrapped}
    bare = sorted({type(part).__name__ for part in trained if part not in wrapped})
    if wrapped and (bare or len(groups) > 1):
        raise ValueError(
            "DistributedDataParallel must wrap the encoder, every decoder and every loss with parameters that train, "
            f"in one process group; found {len(groups)} groups and, not wrapped, {bare}. Their ranks would drift apart."
        )
    return wrapped[0].process_group if wrapped else None


def check_targets(model: MultiTaskModel, targets: Mapping) -> None:
    """Raise unless `targets` maps every task to a target."""
    if not isinstance(targets, Mapping):
        raise TypeError(f"`targets` must map each task to its target, found {type(targets).__name__}.")
    missing = [task for task in model.tasks if task not in targets]
    if missing:
        raise ValueError(f"`targets` must hold one entry a task, found none for {missing}; given: {sorted(targets)}.")
