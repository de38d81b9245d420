r"""Four algorithms as a 2 × 2.

================  ===================  =============================
direction in      constant step        line search
================  ===================  =============================
parameter space   `SGD`                `BLS` (Algorithm 1)
latent space      `MGDAUB`             `FBLS` (Algorithm 2)
================  ===================  =============================

All share one `step`: evaluate the batch, weigh the task gradients of the space, search or not, move. Every decoder
moves along its own gradient. `EqualWeight`, which most people use, is the baseline of every comparison.

Filatov and Merkulov (2021), "Fast Line Search for Multi-Task Learning", https://arxiv.org/abs/2110.00874.
"""

import torch
from torch import Tensor

from fastls.algorithms.directions import Direction
from fastls.algorithms.evaluation.ranks import Ranks
from fastls.algorithms.line_search import Backtracking, ConstantStep, LineSearch, SearchResult
from fastls.algorithms.multitask_optimizer import CommonDirectionOptimizer, MultiTaskOptimizer, StepRecord
from fastls.algorithms.spaces import LatentSpace, ParameterSpace, Passes, check_finite, differentiate
from fastls.models.latent import Latent
from fastls.models.multitask import NO_LABEL, MultiTaskModel, check_targets


class SGD(CommonDirectionOptimizer):
    r"""θ_sh ← θ_sh − lr d_sh, θ_t ← θ_t − lr ∂L_t/∂θ_t, with d_sh = Σ α_t ∂L_t/∂θ_sh: the paper's baseline.

    A step costs 1 encoder forward, T encoder backwards, T decoder forwards and backwards. Memory beside the model: one
    (T, P) buffer with the T encoder gradients, P the encoder's size.

    Args:
        model: a `MultiTaskModel`.
        lr: constant step size η.
        direction: "mean", "mgda", "edm", "pcgrad", or a callable from the Gramian (T, T) to weights (T,).

    Raises:
        ValueError: ``lr <= 0``, an unknown direction, or an encoder without trainable parameters.

    Source: Sener and Koltun (2018), MGDA in the parameters; the SGD of the paper's tables.
    """

    def __init__(self, model: MultiTaskModel, lr: float, direction: str | Direction = "mgda"):
        super().__init__(model, lr, direction, ParameterSpace(), ConstantStep())


class BLS(CommonDirectionOptimizer):
    r"""Algorithm 1: as `SGD`, with η found by the test (4) on the whole model.

    L_t(θ_sh − η d_sh, θ_t − η ∂L_t/∂θ_t) ≤ L_t − ηβ ‖∂L_t/∂θ_t‖² − ηβ ⟨∂L_t/∂θ_sh, d_sh⟩ for every t. A trial costs
    one encoder forward and T decoder forwards on top of `SGD`'s step.

    Args:
        model: a `MultiTaskModel`.
        lr_ub: upper bound of the step; a search begins there, unless it has a warm start. A scheduler on `lr` may decay
            it; at or below the floor of the search, for example at 0, nothing moves.
        direction: as for `SGD`.
        line_search: a `LineSearch`; None for ``Backtracking()``.
        on_failure: what to do when no step passes: "floor" takes the smallest step, as the paper does; "skip" takes
            none; in both cases the record says ``accepted=False``. "raise" raises RuntimeError.

    Raises:
        ValueError: as for `SGD`, or a bound that is not above the floor of the search.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        lr_ub: float = 1.0,
        direction: str | Direction = "mgda",
        line_search: LineSearch | None = None,
        on_failure: str = "floor",
    ):
        super().__init__(model, lr_ub, direction, ParameterSpace(), line_search or Backtracking(), on_failure)


class MGDAUB(CommonDirectionOptimizer):
    r"""θ_sh ← θ_sh − lr (∂z/∂θ_sh)ᵀ d_z with d_z = Σ α_t ∂L_t/∂z: the upper bound of Sener and Koltun (2018).

    A step costs 1 encoder forward and 1 encoder backward for any T.

    Arguments and errors are those of `SGD`.
    """

    def __init__(self, model: MultiTaskModel, lr: float, direction: str | Direction = "mgda"):
        super().__init__(model, lr, direction, LatentSpace(), ConstantStep())


class FBLS(CommonDirectionOptimizer):
    r"""Algorithm 2: as `MGDAUB`, with η found by the test (6) on the decoders alone.

    L_t(z − η d_z, θ_t − η ∂L_t/∂θ_t) ≤ L_t − ηβ ‖∂L_t/∂θ_t‖² − ηβ ⟨∂L_t/∂z, d_z⟩ for every t. A trial costs T decoder
    forwards, or fewer with ``Backtracking(order="in turn")``; a step runs the encoder once forward and once backward.

    The test looks at z − η d_z, while the step moves z by about −η J Jᵀ d_z. `StepRecord.gain` compares the two moves
    along d_z. If the gain is large, nothing guarantees that the losses decrease.

    Args:
        model, lr_ub, direction, line_search, on_failure: as for `BLS`, and so are the errors.
        match_gain: test L_t(z − ηρ d_z, θ_t − η ∂L_t/∂θ_t) ≤ L_t − ηβ ‖∂L_t/∂θ_t‖² − ηβρ ⟨∂L_t/∂z, d_z⟩ instead, with
            ρ = ‖Jᵀd_z‖²/‖d_z‖². To first order the step moves z by −ηJJᵀd_z, whose part along d_z is −ηρ d_z, so the
            trial goes as far along d_z as the step will. The passes are the same. This is ours, not the paper's.

    Example:
        >>> from fastls.models.lenet import lenet
        >>> optimizer = FBLS(lenet(), lr_ub=1.0)
        >>> scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)    # "FBLS+decay"
        >>> record = optimizer.step(torch.rand(4, 1, 28, 28), {"left": torch.arange(4), "right": torch.arange(4)})
        >>> record.passes.encoder_forward, record.passes.encoder_backward
        (1, 1)
        >>> record.passes.decoder_forward == 2 * (1 + record.trials)
        True
    """

    def __init__(
        self,
        model: MultiTaskModel,
        lr_ub: float = 1.0,
        direction: str | Direction = "mgda",
        line_search: LineSearch | None = None,
        on_failure: str = "floor",
        match_gain: bool = False,
    ):
        search = line_search or Backtracking()
        super().__init__(model, lr_ub, direction, LatentSpace(), search, on_failure, match_gain)


class EqualWeight(MultiTaskOptimizer):
    r"""θ ← θ − lr ∂/∂θ (1/T) Σ_t L_t: one backward of the mean loss, the cheapest multi-task step.

    The decoders move along ∂L_t/∂θ_t / T, not along ∂L_t/∂θ_t as in the other four. `lr` is as for `SGD`.

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
        check_targets(model, targets)
        self._check(inputs, targets)
        z = model.encoder(inputs)
        Latent(z)  # raises if z holds no tensor, or none with a gradient
        ranks = Ranks(model.process_group, inputs, self.param_groups[0]["params"][0].device)
        mine = torch.stack([ranks.weigh(head(z, inputs, targets[task])) for task, head in model.heads.items()])
        losses = ranks.sum([mine.detach()])[0]
        check_finite(model, losses, "Losses", NO_LABEL)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        self._move(ranks.sum(list(differentiate(model, mine.mean(), parameters))), self.lr)
        weights, passes = torch.full_like(losses, 1 / len(tasks)), Passes(1, 1, len(tasks), len(tasks))
        result = SearchResult(self.lr, trials=0, accepted=True)
        return StepRecord(losses, weights, None, *result, stationary=False, gain=None, passes=passes)
