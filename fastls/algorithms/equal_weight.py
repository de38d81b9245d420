"""Equal-weight SGD, the baseline of every comparison: what most people run, and the least that a step can cost."""

import torch
from torch import Tensor

from fastls.algorithms.line_search import ConstantStep
from fastls.algorithms.multitask_optimizer import MultiTaskOptimizer, StepRecord
from fastls.algorithms.spaces import Passes, check_finite, check_latent, check_targets, task_loss
from fastls.models.multitask import MultiTaskModel


class EqualWeight(MultiTaskOptimizer):
    r"""θ ← θ − lr ∂/∂θ (1/T) Σ_t L_t: one backward of the mean loss, the least that a multi-task step can cost.

    Args:
        model: a `MultiTaskModel`.
        lr: constant step size. The decoders move along ∂L_t/∂θ_t / T, not along ∂L_t/∂θ_t as in the other four.

    Raises:
        ValueError: ``lr <= 0`` or an encoder without trainable parameters.

    Source: the baseline of Kurin et al. (2022), "In Defense of the Unitary Scalarization for Deep Multi-Task
    Learning", https://arxiv.org/abs/2201.04122.
    """

    def __init__(self, model: MultiTaskModel, lr: float):
        ConstantStep().check_bound(lr)
        super().__init__(model, lr)

    @torch.enable_grad()
    def step(self, inputs, targets: dict[str, Tensor]) -> StepRecord:
        """One step on a batch, as for the other optimizers; the record's `slopes` and `gain` are None."""
        model, tasks = self.model, self.model.tasks
        self._check_parameters()
        check_targets(model, targets)
        z = model.encoder(inputs)
        check_latent(z)
        losses = torch.stack([task_loss(model, task, model.decoders[task](z), targets) for task in tasks])
        check_finite(model, losses.detach(), "Losses")
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        gradients = torch.autograd.grad(losses.mean(), parameters, allow_unused=True, materialize_grads=True)
        self._move(list(gradients), self.lr)
        return StepRecord(
            losses=losses.detach(),
            weights=torch.full_like(losses, 1 / len(tasks), requires_grad=False),
            slopes=None,
            step_size=self.lr,
            trials=0,
            accepted=True,
            stationary=False,
            gain=None,
            passes=Passes(1, 1, len(tasks), len(tasks)),
        )
