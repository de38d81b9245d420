"""Checks of a model by an optimizer: at the first step, at the first label of a task, and when training mode changes.

Gradients may be split at z only if every loss reaches the encoder through z alone. A trial is valid only if, at η = 0,
it finds the losses of the step. Both are compared here with an ordinary forward and backward. A model that breaks this
contract causes an error or a warning, instead of wrong training.
"""

import math
import warnings
from functools import partial

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fastls.algorithms.spaces import Evaluation, Passes, Space
from fastls.models.multitask import MultiTaskModel
from fastls.models.parts import trainable_encoder
from fastls.models.trial_state import Snapshot, get_generators, same_generators

TOLERANCE = 0.05  # of a gradient's norm, between two computations: bfloat16 rounding, sums in another order
CAUSES = (
    "Likely causes: a loss or decoder that keeps a state (a queue, a counter, a moving average) outside of buffers, or "
    "draws from a random generator of its own, or takes another path without gradients."
)


def compare_with_backward(model: MultiTaskModel, inputs, targets: dict[str, Tensor]) -> set[str]:
    """Check that the step moves the parameters that ``sum(losses).backward()`` reaches, by the same gradients.

    Costs two forwards and backwards of the whole model, and the memory of one gradient. Buffers, generators and every
    ``.grad`` are restored afterwards.

    Returns:
        The tasks that have a label in this batch: nothing is known about the paths of the others.

    Raises:
        ValueError: a loss reaches the encoder on a path that does not go through z, or reaches a tensor that the model
            does not hold; a gradient is sparse; or the two computations give a parameter different gradients.
        FloatingPointError: a loss is NaN or infinite.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    held = [(parameter, parameter.grad) for parameter in model.parameters()]
    given = [(leaf, leaf.grad) for leaf in tree_leaves((inputs, targets)) if isinstance(leaf, Tensor) and leaf.is_leaf]
    start = Snapshot(model, next(iter(trainable_encoder(model).values())).device)
    hooks = []
    try:
        evaluation = Evaluation(model, inputs, targets, replayable=False)
        check_paths(evaluation)
        ours, labelled = _split_gradients(evaluation), evaluation.labelled
        del evaluation
        drawn = get_generators(start.device, elsewhere=True)[-2:]
        model.draws_elsewhere = not same_generators(start.generators[-2:], drawn)
        start.restore()
        found: dict[str, tuple[float, float, bool]] = {}
        for parameter, _ in held:
            parameter.grad = None
            if parameter.requires_grad:
                compare = partial(_compare, names, ours, found)
                hooks.append(parameter.register_post_accumulate_grad_hook(compare))
        z = model.encoder(inputs)
        total = sum(head(z, inputs, targets[task]) for task, head in model.heads.items())
        if labelled:  # else this is a rank without any label
            total.backward()  # the ordinary way
        _check_agreement(found)
        return labelled
    finally:
        for hook in hooks:
            hook.remove()
        for tensor, gradient in held + given:
            tensor.grad = gradient
        start.restore()


def _compare(names: dict[int, str], ours: dict[int, Tensor], found: dict, parameter: Tensor) -> None:
    """Record a gradient's distance from ours, its length and whether ours is zero; then release both gradients."""
    gradient, parameter.grad = parameter.grad, None
    if gradient is None:
        raise ValueError(
            f"`{names[id(parameter)]}` must keep the gradient of a backward, found that a hook took it away. Remove "
            "hooks that step on their own before you make the optimizer."
        )
    name, mine = names[id(parameter)], ours.pop(id(parameter), None)
    if gradient.is_sparse:
        raise ValueError(f"Gradients must be dense, found a sparse one of {name}; set `sparse=False` there.")
    if mine is not None:
        length, is_zero = gradient.norm().item(), not mine.any()
        found[name] = (gradient.sub_(mine).norm().item(), length, is_zero)


def check_paths(evaluation: Evaluation) -> None:
    """Refuse losses that reach the encoder beside z, or reach a tensor outside of the model. Runs no pass."""
    given = {id(leaf) for leaf in tree_leaves((evaluation.inputs, evaluation.targets, evaluation.copies))}
    encoder = {id(parameter): name for name, parameter in evaluation.encoder_parameters.items()}
    tasks = evaluation.model.tasks
    heads = zip(tasks, evaluation.head_parameters, strict=True)
    owners = {id(parameter): task for task, parameters in heads for parameter in parameters.values()}
    losses = zip(tasks, evaluation.task_losses, strict=True)
    for task, leaf in [(task, leaf) for task, loss in losses for leaf in find_leaves(loss)]:
        if owners.get(id(leaf), task) != task:
            raise ValueError(
                f"The loss of task {task!r} must read no parameter of another task, found one of task "
                f"{owners[id(leaf)]!r} of shape {tuple(leaf.shape)}: a trial of one task would leave out what the step "
                "does to the other. Detach it, or move what both tasks read into the encoder."
            )
        if id(leaf) in encoder:
            raise ValueError(
                f"Every loss must reach the encoder through z alone, found a path to encoder.{encoder[id(leaf)]} that "
                "does not: a penalty on its weights, or a term that the encoder keeps aside. Return what it needs "
                "as a part of z, and let a loss read it there."
            )
        if id(leaf) not in owners and id(leaf) not in given:
            raise ValueError(
                f"Every trainable tensor that a loss reads must be a parameter of the model, found one of shape "
                f"{tuple(leaf.shape)} that is not. Make the loss a torch.nn.Module that holds it, or detach it."
            )


def _split_gradients(evaluation: Evaluation) -> dict[int, Tensor]:
    """id of a parameter -> its gradient, computed through z."""
    summed = [torch.stack(of_leaf).sum(0) for of_leaf in evaluation.latent_gradients]
    ids = [id(parameter) for parameter in evaluation.encoder_parameters.values()]
    gradients = dict(zip(ids, evaluation.pull_back(summed, last=True), strict=True))
    for parameters, own in zip(evaluation.head_parameters, evaluation.own_gradients, strict=True):
        gradients |= {id(parameter): g for parameter, g in zip(parameters.values(), own, strict=True)}
    return gradients


def _check_agreement(found: dict[str, tuple[float, float, bool]]) -> None:
    rounding = 1e-4 * max((length for _, length, _ in found.values() if math.isfinite(length)), default=0.0)
    wrong = [
        f"{name} ({'not moved at all' if is_zero else 'moved by another gradient'})"
        for name, (distance, length, is_zero) in found.items()
        if math.isfinite(length) and not distance <= TOLERANCE * length + rounding
    ]
    if wrong:
        raise ValueError(
            "The step must move what an ordinary backward of the summed losses reaches, by the same gradient; it does "
            f"not for {', '.join(wrong[:5])}{f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''}. Likely causes: "
            "torch.utils.checkpoint with use_reentrant=True (use False), a backward hook, a state outside of buffers, "
            "an input or target changed in place, or randomness outside of the generators of torch, NumPy and Python."
        )


def compare_trial_at_zero(space: Space, evaluation: Evaluation, direction: Tensor) -> None:
    """Warn if φ(0), the trial of step size 0, differs from the losses. Costs one trial that no record counts."""
    counted, evaluation.passes = evaluation.passes, Passes()
    found, losses = space.losses_at(evaluation, direction, 0.0), evaluation.losses
    evaluation.passes = counted
    rounding = evaluation.rounding**0.5
    far = ~((found - losses).abs() <= rounding * losses.abs().clamp(min=1e-3))
    if far.any():
        rows = zip(evaluation.model.tasks, found.tolist(), losses.tolist(), far.tolist(), strict=True)
        said = ", ".join(f"{task!r}: {trial:.6g} and {loss:.6g}" for task, trial, loss, is_far in rows if is_far)
        warnings.warn(
            f"A trial at a step of size 0 must find the losses of the step; found for {said}. The search compares "
            f"unlike things, and its steps may be wrong. {CAUSES}",
            stacklevel=4,
        )


def find_leaves(total: Tensor) -> list[Tensor]:
    """The tensors that would receive a gradient from a backward of `total`, as far as autograd's graph shows them."""
    seen, stack, leaves = set(), [total.grad_fn], []
    if total.is_leaf:
        return [total] if total.requires_grad else []
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        stack += [following for following, _ in node.next_functions]
    return leaves
