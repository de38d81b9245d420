"""T + 1 step sizes, one for the encoder and one for every decoder, each searched by itself, and no bound to choose."""

import torch
from torch import Tensor

from fastls.algorithms.directions import Direction
from fastls.algorithms.line_search import NOTHING_TO_SEARCH, Backtracking, SearchResult, Slopes
from fastls.algorithms.multitask_optimizer import CommonDirectionOptimizer, StepRecord, scale_by_gain
from fastls.algorithms.spaces import Evaluation, LatentSpace
from fastls.models.multitask import MultiTaskModel

GUARD = 1000.0  # no step is larger: a guard, not a parameter to choose
FIRST_STEP, GROWTH = 0.01, 1.1


class RootMeanSquare:
    r"""d = P⁻¹ g with P = diag(√v̂) + ε, v ← μv + (1 − μ)g², v̂ = v / (1 − μⁿ) after n steps: the metric of RMSProp.

    v̂ is v with its start at zero corrected, as in Adam.

    Args:
        decay: μ in [0, 1).
        eps: ε > 0, for entries that have no gradient.

    Example:
        >>> parameter, gradient = torch.zeros(2), torch.tensor([3.0, -0.1])
        >>> RootMeanSquare()([parameter], [gradient], {parameter: {}})[0]           # the first step is the sign
        tensor([ 1.0000, -1.0000])

    Source: Kingma and Ba (2015), "Adam", https://arxiv.org/abs/1412.6980, algorithm 1 without its momentum.
    """

    def __init__(self, decay: float = 0.99, eps: float = 1e-8):
        if not (0 <= decay < 1 and eps > 0):
            raise ValueError(f"`decay` must be in [0, 1) and `eps` above 0, found {decay} and {eps}.")
        self.decay = decay
        self.eps = eps

    @torch.no_grad()
    def __call__(self, parameters: list[Tensor], gradients: list[Tensor], state: dict) -> list[Tensor]:
        """P⁻¹ g, a tensor a parameter; v is kept in ``state[parameter]``, where `state_dict` has it."""
        for parameter in parameters:
            if "square_average" not in state[parameter]:
                state[parameter] |= {"square_average": torch.zeros_like(parameter), "steps": 0}
            state[parameter]["steps"] += 1
        averages = [state[parameter]["square_average"] for parameter in parameters]
        torch._foreach_mul_(averages, self.decay)
        torch._foreach_addcmul_(averages, gradients, gradients, value=1 - self.decay)
        corrected = torch._foreach_div(averages, 1 - self.decay ** state[parameters[0]]["steps"])
        torch._foreach_sqrt_(corrected)
        torch._foreach_add_(corrected, self.eps)
        return torch._foreach_div(gradients, corrected)


class BlockFBLS(CommonDirectionOptimizer):
    r"""θ_sh ← θ_sh − η (∂z/∂θ_sh)ᵀ d_z, θ_t ← θ_t − η_t ∂L_t/∂θ_t, with η and η_1, ..., η_T from searches of their own:

    .. math::
        L_t(z − ηρ d_z, θ_t) ≤ L_t − ηβρ ⟨∂L_t/∂z, d_z⟩ \text{ for every } t, \qquad
        L_t(z, θ_t − η_t ∂L_t/∂θ_t) ≤ L_t − η_t β ‖∂L_t/∂θ_t‖² \text{ for each } t,

    where ρ = ‖(∂z/∂θ_sh)ᵀ d_z‖² / ‖d_z‖² is the gain, as in ``FBLS(match_gain=True)``. Each search starts at 1.1 times
    the step that it accepted last, the first at 0.01. A block whose search fails rests for a step. A step costs 1
    encoder forward, 1 encoder backward, T decoder forwards for a trial of the encoder and 1 for a trial of a decoder.

    Two things are not tested: the decrease of L_t when z and θ_t move together, and the part of z's move −ηJJᵀd_z that
    is not along d_z. Watch `StepRecord.gain` and the losses of the next steps.

    In the record of a step, `step_size` and `trials` are the encoder's and `decoder_steps` has the η_t; `accepted` says
    whether the searches of all blocks that have a gradient were.

    Args:
        model: a `MultiTaskModel`.
        direction: as for `FBLS`. With a rule other than "mgda" and "edm" some ⟨∂L_t/∂z, d_z⟩ can be ≤ 0; the encoder
            then rests.
        beta: β in (0, 1) of all searches.
        preconditioner: `RootMeanSquare` for a step −ηP⁻¹Jᵀd_z of the encoder, J = ∂z/∂θ_sh; the gain is then
            ⟨Jᵀd_z, P⁻¹Jᵀd_z⟩ / ‖d_z‖². None for P = I.

    Raises:
        ValueError: β outside of (0, 1), an unknown direction, or an encoder without trainable parameters.

    Example:
        >>> from fastls.models.lenet import lenet
        >>> optimizer = BlockFBLS(lenet())
        >>> record = optimizer.step(torch.rand(4, 1, 28, 28), {"left": torch.arange(4), "right": torch.arange(4)})
        >>> record.passes.encoder_forward, record.passes.encoder_backward, len(record.decoder_steps)
        (1, 1, 2)
    """

    options = (*CommonDirectionOptimizer.options, "preconditioner")

    def __init__(
        self,
        model: MultiTaskModel,
        direction: str | Direction = "mgda",
        beta: float = 0.4,
        preconditioner: RootMeanSquare | None = None,
    ):
        search, previous = Backtracking(beta, growth=GROWTH), FIRST_STEP / GROWTH
        super().__init__(model, GUARD, direction, LatentSpace(), search, match_gain=True, previous_step=previous)
        self.preconditioner = preconditioner

    def _follow(self, batch: Evaluation, direction: Tensor, weights: Tensor, active: Tensor, slopes: Slopes):
        """Search for every block at the losses and gradients of the same point, then move all."""
        shared, gain = self._pull_back(batch, direction)
        trial_direction, slopes = scale_by_gain(gain, direction, slopes)
        own = slopes.own
        results = [self._search_encoder(batch, trial_direction, active, slopes.shared)]
        results += [self._search_decoder(batch, t, own[t : t + 1]) for t in range(len(own))]
        for group, gradient, result in zip(self.param_groups, [shared, *batch.own_gradients], results, strict=True):
            self._move_block(group, gradient, result)
        encoder_step, *decoder_steps = [result.step_size if result.accepted else 0.0 for result in results]
        result = SearchResult(encoder_step, results[0].trials, all(result.accepted for result in results))
        return self._record(batch, weights, slopes, result, gain, decoder_steps=decoder_steps)

    def _record(self, batch, weights, slopes, result, *others, decoder_steps=None, **more) -> StepRecord:
        steps = torch.tensor(decoder_steps or [0.0] * len(weights), dtype=torch.float64)
        return super()._record(batch, weights, slopes, result, *others, decoder_steps=steps, **more)

    def _search_encoder(self, batch: Evaluation, direction: Tensor, active: Tensor, shared: Tensor) -> SearchResult:
        """η for z − η direction, the decoders staying where they are; `shared` has the slopes along it."""
        if not direction.any():
            return NOTHING_TO_SEARCH
        z, step = batch.z.detach(), direction.view_as(batch.z)
        numbers = active.nonzero().squeeze(1).tolist()

        def phi(eta: float) -> Tensor:
            return batch.trial_losses(torch.add(z, step, alpha=-eta), 0.0)[numbers]

        slopes, previous = Slopes(0 * shared[numbers], shared[numbers]), self.param_groups[0]["previous_step"]
        return self.line_search(phi, batch.losses.cpu()[numbers], slopes, self.lr, previous)

    def _search_decoder(self, batch: Evaluation, t: int, own: Tensor) -> SearchResult:
        """η_t for θ_t − η_t ∂L_t/∂θ_t, z staying where it is."""
        if own == 0:
            return NOTHING_TO_SEARCH
        z, previous = batch.z.detach(), self.param_groups[1 + t]["previous_step"]

        def phi(eta: float) -> Tensor:
            return batch.trial_loss(t, z, eta)[None]

        slopes = Slopes(own, torch.zeros_like(own))
        return self.line_search(phi, batch.losses[t : t + 1].cpu(), slopes, self.lr, previous)

    @torch.no_grad()
    def _move_block(self, group: dict, gradient: list[Tensor], result: SearchResult) -> None:
        """θ ← θ − η g for one block; where its search failed it stays, and so does the start of the next search."""
        if result.accepted and result.step_size:
            group["previous_step"] = result.step_size
            torch._foreach_add_(group["params"], gradient, alpha=-result.step_size)
