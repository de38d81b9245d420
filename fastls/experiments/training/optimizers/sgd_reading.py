"""The other reading of the paper's SGD: one encoder forward for every task, not one that all tasks share.

The paper does not say which version it timed. A loop that computes each task's loss from the input, and calls backward
on it, runs the encoder forward T times. `fastls.SGD` keeps the encoder's graph and runs the encoder once. Both take the
same step, but here batch normalisation counts the batch T times.
"""

import torch
from torch import Tensor

from fastls.algorithms.directions import Direction
from fastls.algorithms.line_search import ConstantStep
from fastls.algorithms.multitask_optimizer import CommonDirectionOptimizer
from fastls.algorithms.spaces import Evaluation, ParameterSpace
from fastls.models.multitask import MultiTaskModel


class SeparateForwards(ParameterSpace):
    """g_t = ∂L_t/∂θ_sh, each through its own graph."""

    def gradients(self, evaluation: Evaluation) -> Tensor:
        """(T, P): T backwards through the encoder, with a new forward before each backward but the first."""
        tasks = len(evaluation.losses)
        for t in range(tasks):
            latent = [of_leaf[t] for of_leaf in evaluation.latent_gradients]
            if t > 0:
                with evaluation.encoder_start.replay():
                    evaluation.z = evaluation.encode()
            row = torch.cat([gradient.flatten() for gradient in evaluation.pull_back(latent, last=True)])
            if self.buffer is None:
                self.buffer = row.new_empty((tasks, len(row)))
            self.buffer[t] = row
        return self.buffer


class ReplayableConstantStep(ConstantStep):
    """A constant step whose batch can be run again with the same dropout masks."""

    needs_trials = True


class SGDSeparateForwards(CommonDirectionOptimizer):
    """`fastls.SGD`, at a cost of T encoder forwards per step.

    Args:
        model, lr, direction: as for `fastls.SGD`.
    """

    def __init__(self, model: MultiTaskModel, lr: float, direction: str | Direction = "mgda"):
        super().__init__(model, lr, direction, SeparateForwards(), ReplayableConstantStep())
