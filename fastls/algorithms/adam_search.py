"""FBLS along Adam's step: a search in latent space with no number to choose."""

from dataclasses import replace

import torch
from torch import Tensor

from fastls.algorithms.directions import Direction
from fastls.algorithms.functional import CommonDirection
from fastls.algorithms.line_search import Backtracking, Phi, SearchResult, Slopes
from fastls.algorithms.multitask_optimizer import CommonDirectionOptimizer, StepRecord
from fastls.algorithms.spaces import Evaluation, LatentSpace, check_encoder_gradient, squared_norm
from fastls.models.multitask import MultiTaskModel

# The same for every model, as the constants of Adam are.
MOMENTUM, DECAY, EPS = 0.9, 0.99, 1e-8
BETA, GROWTH = 0.3, 1.3
FIRST_STEP, FLOOR, GUARD = 1e-6, 1e-14, 1000.0


def polyak_step(losses: Tensor, slopes: Slopes, solved: float = 0.0) -> float:
    """min_t L_t / s_t over L_t ≥ `solved`: the step at which the first task is predicted to reach zero loss.

    Example:
        >>> polyak_step(torch.tensor([2.0, 1.0]), Slopes(own=torch.tensor([1.0, 1.0]), shared=torch.tensor([0.0, 3.0])))
        0.25

    Source: Polyak (1969), https://doi.org/10.1016/0041-5553(69)90061-5, with zero as the smallest possible loss.
    """
    losses, total = losses.double(), slopes.total.double()
    return float(torch.where(losses >= solved, losses / total, torch.inf).min())


class BoundedBacktracking(Backtracking):
    """`Backtracking` that knows the rounding of the losses, and whose first trial is at most `polyak_step`.

    The bound: no step is predicted to decrease a loss below zero. Where the rounding of a loss hides the decrease that
    the test asks for, the loss may not rise by more than this rounding. Else a search that begins at 1e-6 would never
    begin in bfloat16, or where losses are large. A task whose loss is below the rounding of the largest loss is solved:
    it sets no bound, and its loss may rise to there. Else a loss of 0 would stop every task.

    φ may have a ``rounding``, that of a loss, relative to it, as it has in a step; without it, losses are exact.
    """

    def _search(self, phi: Phi, losses: Tensor, slopes: Slopes, lr_ub: float, previous: float) -> SearchResult:
        hidden = getattr(phi, "rounding", 0.0) * losses.double().abs()  # (T,), what rounding hides of a loss
        solved = float(hidden.max())  # a task below this is solved: its loss would stop all tasks
        hidden = hidden.where(losses.double().abs() >= solved, solved)

        def see(eta: float) -> Tensor:
            too_short = eta * self.beta * slopes.total.double() < hidden
            return phi(eta).to(hidden) - torch.where(too_short, hidden, 0)

        return super()._search(see, losses, slopes, min(lr_ub, polyak_step(losses, slopes, solved)), previous)


class AdamFBLS(CommonDirectionOptimizer):
    r"""θ ← θ − η P⁻¹ m with the first η in η_0, γ η_0, γ² η_0, ... such that for every task t

    .. math::
        L_t(z − ηρ d_z, θ_t − η P_t^{-1} g_t) ≤ L_t − ηβ (⟨g_t, P_t^{-1} g_t⟩ + ρ ⟨∂L_t/∂z, d_z⟩), \qquad
        ρ = ⟨g_{sh}, P^{-1} g_{sh}⟩ / ‖d_z‖²,

    where η_0 is the smallest of 1.3 η_last and all L_t / s_t. s_t is the bracket: the predicted decrease per unit of
    step. The gradients are g_t = ∂L_t/∂θ_t for decoder t and g_sh = Jᵀd_z for the encoder, with J = ∂z/∂θ_sh. P is
    Adam's diagonal metric √v̂ + 1e-8. v̂ is the running mean of the squared gradients (weight 0.99), m that of the
    gradients (weight 0.9); both are corrected for their start at zero. Without momentum the encoder would move z by
    about −ηJP⁻¹Jᵀd_z. The part of this along d_z is −ηρ d_z, so a trial goes equally far along d_z.

    As in SaLSA, the test uses the gradient and the step follows the momentum. The first step is at most 1e-6, and a
    step is at most 1.3 times the last one: the search warms up by itself. If no trial passes, nothing moves.
    Where rounding hides the decrease that the test asks for, a loss may rise by this rounding: `BoundedBacktracking`.
    The bound L_t / s_t is Polyak's step for losses that are never negative: no step is predicted to decrease a loss
    below zero. The test cannot see all that a step does to the encoder: without this bound η can grow until a
    pretrained encoder is ruined. A negative loss sets no bound, and neither does that of a solved task.
    A step costs 1 encoder forward and 1 encoder backward, T decoder forwards and backwards, and T decoder forwards per
    trial. The optimizer keeps two numbers per parameter, as Adam does.

    The constants (β = 0.3, γ = 1/2 and those above) are the same for every model: they were chosen on MultiMNIST,
    CIFAR-10 and STS-B together. `lr` only guards against overflow; a schedule may lower it.

    Args:
        model: a `MultiTaskModel`.
        direction: as for `FBLS`.

    Raises:
        ValueError: an unknown direction, or an encoder without trainable parameters.

    Example:
        >>> from fastls.models.lenet import lenet
        >>> optimizer = AdamFBLS(lenet())
        >>> record = optimizer.step(torch.rand(4, 1, 28, 28), {"left": torch.arange(4), "right": torch.arange(4)})
        >>> record.step_size, record.passes.encoder_forward, record.passes.encoder_backward
        (1e-06, 1, 1)

    Source: ours. The parts: Kingma and Ba (2015), "Adam", https://arxiv.org/abs/1412.6980; Kenneweg et al. (2024),
    "SaLSA", https://arxiv.org/abs/2407.20650, for the test on the gradient and the step along the momentum; Schaipp et
    al. (2023), "MoMo", https://arxiv.org/abs/2305.07583, for Polyak's step as a bound on Adam's.
    """

    def __init__(self, model: MultiTaskModel, direction: str | Direction = "mgda"):
        search = BoundedBacktracking(BETA, floor=FLOOR, growth=GROWTH)
        super().__init__(model, GUARD, direction, LatentSpace(), search, previous_step=FIRST_STEP / GROWTH)
        for group in self.param_groups:
            group["metric"] = "adam"  # other methods refuse this state, whose `lr` is a guard

    def _follow(self, batch: Evaluation, found: CommonDirection) -> StepRecord:
        """Search with the decoders along P⁻¹g, then move along P⁻¹m."""
        shared = self.space.shared_direction(batch, found.direction)
        check_encoder_gradient(squared_norm(shared, batch.losses))
        blocks = [shared, *batch.own_gradients]
        pairs = [self._precondition(group["params"], g) for group, g in zip(self.param_groups, blocks, strict=True)]
        metric_steps, moves = zip(*pairs, strict=True)
        products = torch.stack([_inner(*pair, batch.losses) for pair in zip(blocks, metric_steps, strict=True)])
        gain = products[0] / batch.squared_length(found.direction)
        batch.own_gradients = metric_steps[1:]  # trials move the decoders along P⁻¹g
        tried = replace(found, slopes=Slopes(products[1:].cpu(), found.slopes.shared)).scaled(gain)
        previous = self.param_groups[0]["previous_step"]
        result = self._search(batch, tried)
        if result.accepted and result.step_size:
            self._move([move for block in moves for move in block], result.step_size)
        else:
            self.param_groups[0]["previous_step"] = previous  # the next search begins where this one did
            result = result._replace(step_size=0.0)
        batch.trial_buffers.clear()
        return self._record(batch, tried, result, gain)

    @torch.no_grad()
    def _precondition(self, parameters: list[Tensor], gradients: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """P⁻¹g and P⁻¹m, one tensor per parameter. The running means are in ``state``, so `state_dict` saves them."""
        if not parameters:
            return [], []
        names, states = ("average", "square_average"), [self.state[parameter] for parameter in parameters]
        for parameter, state in zip(parameters, states, strict=True):
            if not state:
                state |= {name: torch.zeros_like(parameter) for name in names} | {"steps": 0}
            state["steps"] += 1
        averages, squares = ([state[name] for state in states] for name in names)
        steps = states[0]["steps"]
        torch._foreach_lerp_(averages, gradients, 1 - MOMENTUM)
        torch._foreach_mul_(squares, DECAY)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - DECAY)
        metric = torch._foreach_div(squares, 1 - DECAY**steps)
        torch._foreach_sqrt_(metric)
        torch._foreach_add_(metric, EPS)
        moves = torch._foreach_div(averages, metric)
        torch._foreach_div_(moves, 1 - MOMENTUM**steps)
        return torch._foreach_div(gradients, metric), moves


def _inner(first: list[Tensor], second: list[Tensor], like: Tensor) -> Tensor:
    """Σ ⟨·, ·⟩ as a float64 scalar on the device of `like`; zero for empty lists."""
    if not first:
        return like.new_zeros((), dtype=torch.float64)
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).double().sum()
