"""The parts of a model that an optimizer can move, and those that it refuses when it is made."""

import torch
from torch import Tensor, nn

from fastls.models.multitask import MultiTaskModel

SHARDED = {"FSDPModule", "FullyShardedDataParallel"}  # names: an import would load torch's distributed half


def trainable(module: nn.Module) -> dict[str, Tensor]:
    """The parameters that a step moves, by their names in the module."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def trainable_encoder(model: MultiTaskModel) -> dict[str, Tensor]:
    """The parameters of the encoder that a step moves; ValueError if there is none."""
    if parameters := trainable(model.encoder):
        return parameters
    raise ValueError(
        "The encoder must have a trainable parameter, found none. Unfreeze one with `requires_grad_()`; with a frozen "
        "encoder the tasks share nothing, so train each decoder by itself."
    )


def check_parts(model: MultiTaskModel) -> None:
    """Refuse a model that no optimizer can move rightly, and say which part of it is in the way.

    Raises:
        TypeError: it is no `MultiTaskModel`; a trainable parameter is complex; a module is sharded, or wrapped in
            DataParallel or TorchScript; or a module inside of a part is wrapped in DistributedDataParallel, which
            `MultiTaskModel` accepts around whole parts only.
        ValueError: the encoder has no trainable parameter; a decoder was exchanged; or a trainable parameter belongs to
            two tasks, or to a task and to the encoder.
    """
    if not isinstance(model, MultiTaskModel):
        raise TypeError(
            f"`model` must be a MultiTaskModel, found {type(model).__name__}. For several processes wrap its parts "
            "in DistributedDataParallel, not the whole."
        )
    trainable_encoder(model)
    model.check_decoders()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.is_complex():
            raise TypeError(
                f"Trainable parameters must be real, found {name} of {parameter.dtype}: slopes and weights are sums of "
                "real products. Hold its real and imaginary part (torch.view_as_real)."
            )
    for name, module in model.named_modules():
        wrapped = isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel | torch.jit.ScriptModule)
        if wrapped or SHARDED & {kind.__name__ for kind in type(module).__mro__}:
            raise TypeError(
                f"`{name}` must be a plain module or one of torch.compile, found {type(module).__name__}: trials run "
                "its parts with other parameters, which it does not allow, and ranks would drift apart. Unwrap it."
            )
    owners: dict[int, str] = {}
    parts = {"the encoder": model.encoder} | {f"task {task!r}": head for task, head in model.heads.items()}
    for part, module in parts.items():
        for name, parameter in trainable(module).items():
            if id(parameter) in owners:
                raise ValueError(
                    f"A parameter must belong to one part of the model, found {name} in {owners[id(parameter)]} and in "
                    f"{part}. Move what tasks share into the encoder, and let it return what they read."
                )
            owners[id(parameter)] = part
