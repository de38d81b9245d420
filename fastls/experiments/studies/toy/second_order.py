"""Newton's method for two objectives, in the parameters and in latent space: for the toy problems.

On a network J = ∂z/∂θ_sh is too large to form; conjugate gradients can find J⁺d_z, with a JVP and a VJP an iteration.
"""

import torch
from scipy.optimize import brentq
from torch import Tensor

from fastls.algorithms.line_search import Backtracking, Slopes
from fastls.algorithms.multitask_optimizer import MultiTaskOptimizer, StepRecord
from fastls.algorithms.spaces import Passes
from fastls.models.multitask import MultiTaskModel


def newton_weights(gradients: Tensor, hessians: Tensor) -> Tensor:
    r"""α ∈ Δ minimising ½ g_αᵀ H_α⁻¹ g_α, g_α = Σ α_t g_t, H_α = Σ α_t H_t: the dual of `NewtonMOO`'s direction.

    Args:
        gradients: g_t, (2, p) float64.
        hessians: H_t, (2, p, p), positive definite.

    Returns:
        (2,).

    Raises:
        ValueError: not two objectives.

    Example:
        >>> newton_weights(torch.eye(2), torch.eye(2).expand(2, 2, 2)).numpy().round(4).tolist()
        [0.5, 0.5]
    """
    if len(gradients) != 2:
        raise ValueError(
            f"Newton's weights are found by a search over α_1 and need two objectives, not {len(gradients)}."
        )

    def slope(first: float) -> float:
        """m_1 − m_2 at d = −H_α⁻¹ g_α, m_t = g_tᵀd + ½ dᵀH_t d: minus the derivative by α_1, which falls as α_1 grows.

        Its root is found up to rounding; a search for the smallest value would find only half of the digits.
        """
        alpha = gradients.new_tensor([first, 1 - first])
        d = -torch.linalg.solve(torch.tensordot(alpha, hessians, dims=1), alpha @ gradients)
        models = gradients @ d + torch.einsum("i,tij,j->t", d, hessians, d) / 2
        return (models[0] - models[1]).item()

    if slope(0.0) <= 0:
        first = 0.0
    elif slope(1.0) >= 0:
        first = 1.0
    else:
        first = brentq(slope, 0.0, 1.0, xtol=1e-15)
    return gradients.new_tensor([first, 1 - first])


class NewtonMOO(MultiTaskOptimizer):
    r"""θ ← θ + ηd, d = −H_α⁻¹ g_α = argmin_d max_t (g_tᵀd + ½ dᵀH_t d), with η = 1 first and the Armijo test

    .. math:: L_t(θ + ηd) ≤ L_t(θ) − ηβ · ½ g_αᵀ H_α⁻¹ g_α \text{ for both } t.

    With ``latent=True`` all of this is done in z: d_z from ∂L_t/∂z and ∂²L_t/∂z², trials by the decoders alone at
    z + ηd_z, and θ ← θ + ηJ⁺d_z, J = ∂z/∂θ. If J has full row rank, this is the Gauss-Newton step of Σ α_t L_t, which
    ignores the curvature of the encoder. If the encoder is linear too, z moves exactly to the point of the trial.

    Args:
        model: of `fastls.models.quadratic`, with two strictly convex tasks.
        latent: whether to work in z.
        beta: β in (0, 1).

    Example:
        >>> from fastls.experiments.studies.toy.toy import two_quadratics
        >>> model = two_quadratics().model((2.0, 2.0))
        >>> record = NewtonMOO(model, latent=True).step(None, dict.fromkeys(model.tasks))
        >>> record.step_size, record.accepted
        (1.0, True)

    Source: Fliege, Graña Drummond and Svaiter (2009), "Newton's Method for Multiobjective Optimization",
    https://doi.org/10.1137/08071692X.
    """

    def __init__(self, model: MultiTaskModel, latent: bool = False, beta: float = 0.1):
        super().__init__(model, lr=1.0)
        self.latent = latent
        self.line_search = Backtracking(beta)

    def step(self, inputs, targets: dict) -> StepRecord:
        """One step; `inputs` is None and `targets` has None for each task, as for all toy problems."""
        encoder, theta = self.model.encoder, self.model.encoder.theta.detach().clone()

        def encode(point: Tensor) -> Tensor:
            return torch.func.functional_call(encoder, {"theta": point}, (inputs,))

        z = encode(theta).detach()
        start, losses = (z, self._losses) if self.latent else (theta, lambda point: self._losses(encode(point)))
        gradients = torch.func.jacrev(losses)(start)  # (T, p)
        hessians = torch.func.hessian(losses)(start)  # (T, p, p)
        weights = newton_weights(gradients, hessians)
        shared = weights @ gradients
        direction = -torch.linalg.solve(torch.tensordot(weights, hessians, dims=1), shared)
        decrease = -(shared @ direction) / 2
        slopes = Slopes(torch.zeros(2, dtype=torch.float64), decrease.expand(2))
        result = self.line_search(lambda eta: losses(start + eta * direction), losses(start), slopes, self.lr)
        moved = torch.linalg.pinv(torch.func.jacrev(encode)(theta)) @ direction if self.latent else direction
        if result.accepted:
            with torch.no_grad():
                encoder.theta += result.step_size * moved
        return StepRecord(
            losses=losses(start),
            weights=weights,
            slopes=slopes.total,
            **result._asdict(),
            stationary=False,
            gain=None,
            passes=self._count(len(z), len(theta), result.trials),
        )

    def _losses(self, z: Tensor) -> Tensor:
        model = self.model
        return torch.stack([model.losses[task](model.decoders[task](z), None) for task in model.tasks])

    def _count(self, latent: int, parameters: int, trials: int) -> Passes:
        """A gradient is a backward pass, a Hessian one more for every row, J one for every entry of z."""
        tasks, rows = len(self.model.tasks), 1 + (latent if self.latent else parameters)
        forward, backward = (1, latent) if self.latent else (1 + trials, tasks * rows)
        return Passes(forward, backward, tasks * (1 + trials), tasks * rows)
