"""A peer from another library: MGDA on encoder gradients by TorchJD, as its users would run it."""

import torch
from torch import Tensor

from fastls.algorithms.multitask_optimizer import MultiTaskOptimizer, StepRecord
from fastls.algorithms.spaces import Passes
from fastls.models.multitask import MultiTaskModel, check_targets


class TorchJDMGDA(MultiTaskOptimizer):
    """`mtl_backward`, then `jac_to_grad` with `MGDA`, then `torch.optim.SGD`: the step of `fastls.SGD`, by TorchJD.

    Its weights come from Frank-Wolfe iterations, ours from an exact solver. The T encoder gradients are taken in one
    batched backward, TorchJD's default, which counts as T here.

    Args:
        model: a `MultiTaskModel`.
        lr: constant step size.

    Raises:
        ModuleNotFoundError: torchjd is not installed.

    Source: Quinton and Rey (2024), "Jacobian Descent for Multi-Objective Optimization",
    https://arxiv.org/abs/2406.16232; https://github.com/SimplexLab/TorchJD.
    """

    def __init__(self, model: MultiTaskModel, lr: float):
        from torchjd.aggregation import MGDA

        super().__init__(model, lr)
        self.aggregator = MGDA()
        self.inner = torch.optim.SGD(model.parameters(), lr)

    @torch.enable_grad()
    def step(self, inputs, targets: dict[str, Tensor]) -> StepRecord:
        """One step on a batch; the parameters' `.grad` are overwritten."""
        from torchjd.autojac import jac_to_grad, mtl_backward

        model = self.model
        check_targets(model, targets)
        z = model.encoder(inputs)
        losses = [head(z, inputs, targets[task]) for task, head in model.heads.items()]
        encoder, *decoders = ([*group["params"]] for group in self.param_groups)
        self.inner.zero_grad()
        self.inner.param_groups[0]["lr"] = self.lr  # a scheduler may have changed it
        mtl_backward(losses, features=z, tasks_params=decoders, shared_params=encoder)
        weights = jac_to_grad(encoder, self.aggregator)
        self.inner.step()
        tasks = len(losses)
        return StepRecord(
            losses=torch.stack([loss.detach() for loss in losses]),
            weights=weights,
            slopes=None,
            step_size=self.lr,
            trials=0,
            accepted=True,
            stationary=False,
            gain=None,
            passes=Passes(1, tasks, tasks, tasks),
        )
