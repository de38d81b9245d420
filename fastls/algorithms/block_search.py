"""T + 1 step sizes, one for the encoder and one for every decoder, each searched by itself, and no bound to choose."""

import torch
from torch import Tensor

from fastls.algorithms.directions import Direction, check_weights, compute_gramian, get_direction, is_stationary, weigh
from fastls.algorithms.line_search import NOTHING_TO_SEARCH, Backtracking, SearchResult, Slopes
from fastls.algorithms.multitask_optimizer import MultiTaskOptimizer, StepRecord, copy_to_host
from fastls.algorithms.preconditioning import RootMeanSquare
from fastls.algorithms.spaces import Evaluation, LatentSpace, check_encoder_gradient, check_finite, squared_norm
from fastls.models.multitask import MultiTaskModel

GUARD = 1000.0  # no step is larger: a guard, not a parameter to choose
FIRST_STEP, GROWTH = 0.01, 1.1


class BlockFBLS(MultiTaskOptimizer):
    r"""θ_sh ← θ_sh − η (∂z/∂θ_sh)ᵀ d_z, θ_t ← θ_t − η_t ∂L_t/∂θ_t, with η and η_1, ..., η_T from searches of their own:

    .. math::
        L_t(z − ηρ d_z, θ_t) ≤ L_t − ηβρ ⟨∂L_t/∂z, d_z⟩ \text{ for every } t, \qquad
        L_t(z, θ_t − η_t ∂L_t/∂θ_t) ≤ L_t − η_t β ‖∂L_t/∂θ_t‖² \text{ for each } t,

    ρ = ‖(∂z/∂θ_sh)ᵀ d_z‖² / ‖d_z‖² being the gain, as in ``FBLS(match_gain=True)``. Each search starts at 1.1 times the
    step that it accepted last, the first at 0.01; a block whose search fails rests for a step. A step costs 1 encoder
    forward, 1 encoder backward, and decoder passes: T forwards for a trial of the encoder, 1 for a trial of a decoder.

    The decrease of L_t when z and θ_t move together is not tested, and z moves by −ηJJᵀd_z, not along d_z alone:
    `StepRecord.gain` and the losses of the next steps are what to watch.

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

    def __init__(
        self,
        model: MultiTaskModel,
        direction: str | Direction = "mgda",
        beta: float = 0.4,
        preconditioner: RootMeanSquare | None = None,
    ):
        self.line_search = Backtracking(beta, growth=GROWTH)
        super().__init__(model, GUARD, previous_step=FIRST_STEP / GROWTH)
        self.direction = get_direction(direction)
        self.preconditioner = preconditioner

    def __getstate__(self) -> dict:
        return super().__getstate__() | {
            name: getattr(self, name) for name in ("line_search", "direction", "preconditioner")
        }

    @torch.enable_grad()
    def step(self, inputs, targets: dict[str, Tensor]) -> StepRecord:
        """One step on a batch, with the errors of `CommonDirectionOptimizer.step`.

        Returns:
            `StepRecord`: `step_size` is the encoder's η and `decoder_steps` has the η_t; `trials` is of the encoder;
            `accepted` says whether the searches of all blocks that have a gradient were.
        """
        self._check_parameters()
        batch, space = Evaluation(self.model, inputs, targets, replayable=True), LatentSpace()
        gradients = space.gradients(batch)  # (T, n)
        gramian, own = copy_to_host(compute_gramian(gradients), batch.own_slopes())  # (T, T), (T,)
        check_finite(self.model, gramian.diagonal() + own, "Squared gradients")
        weights, active = weigh(self.direction, gramian, own)  # (T,), (T,)
        check_weights(self.direction, weights)
        slopes = Slopes(own, gramian @ weights)
        if is_stationary(gramian, weights, own, gradients.dtype):
            return self._record(batch, weights, slopes, [SearchResult(0.0, 0, False)] * (1 + len(own)), None)

        direction = weights.to(gradients) @ gradients  # (n,)
        shared = space.shared_direction(batch, direction)
        squared_length = squared_norm(shared, batch.losses)
        check_encoder_gradient(squared_length)
        if self.preconditioner is not None:
            gradient = shared
            shared = self.preconditioner(self.param_groups[0]["params"], gradient, self.state)
            squared_length = sum((g * d).sum() for g, d in zip(gradient, shared, strict=True)).to(squared_length)
        gain = squared_length / squared_norm([direction], batch.losses)
        rho = gain.cpu().nan_to_num()  # d_z = 0: only the decoders move
        slopes = Slopes(own, rho * slopes.shared)
        found = [self._search_encoder(batch, rho.to(direction) * direction, active, slopes.shared)]
        found += [self._search_decoder(batch, t, own[t : t + 1]) for t in range(len(own))]
        for group, gradient, result in zip(self.param_groups, [shared, *batch.own_gradients], found, strict=True):
            self._move_block(group, gradient, result)
        return self._record(batch, weights, slopes, found, gain)

    def _search_encoder(
        self, batch: Evaluation, trial_direction: Tensor, active: Tensor, shared: Tensor
    ) -> SearchResult:
        """η for z − η trial_direction, the decoders staying where they are."""
        if not trial_direction.any():
            return NOTHING_TO_SEARCH
        z, step = batch.z.detach(), trial_direction.view_as(batch.z)
        numbers = active.nonzero().squeeze(1).tolist()

        def phi(eta: float) -> Tensor:
            return batch.trial_losses(torch.add(z, step, alpha=-eta), 0.0)[numbers]

        slopes = Slopes(torch.zeros_like(shared[numbers]), shared[numbers])
        return self.line_search(
            phi, batch.losses.cpu()[numbers], slopes, self.lr, self.param_groups[0]["previous_step"]
        )

    def _search_decoder(self, batch: Evaluation, t: int, own: Tensor) -> SearchResult:
        """η_t for θ_t − η_t ∂L_t/∂θ_t, z staying where it is."""
        if own == 0:
            return NOTHING_TO_SEARCH
        z = batch.z.detach()

        def phi(eta: float) -> Tensor:
            return batch.trial_loss(t, z, eta)[None]

        slopes = Slopes(own, torch.zeros_like(own))
        previous = self.param_groups[1 + t]["previous_step"]
        return self.line_search(phi, batch.losses[t : t + 1].cpu(), slopes, self.lr, previous)

    @torch.no_grad()
    def _move_block(self, group: dict, gradient: list[Tensor], result: SearchResult) -> None:
        """θ ← θ − η g for one block; where its search failed it stays, and so does the start of the next search."""
        if result.accepted and result.step_size:
            group["previous_step"] = result.step_size
            torch._foreach_add_(group["params"], gradient, alpha=-result.step_size)

    @staticmethod
    def _record(batch, weights, slopes, found: list[SearchResult], gain) -> StepRecord:
        steps = [result.step_size if result.accepted else 0.0 for result in found]
        return StepRecord(
            losses=batch.losses,
            weights=weights.to(batch.losses.device),
            slopes=slopes.total.to(batch.losses.device),
            step_size=steps[0],
            trials=found[0].trials,
            accepted=all(result.accepted for result in found),
            stationary=gain is None,
            gain=gain,
            passes=batch.passes,
            decoder_steps=torch.tensor(steps[1:], dtype=torch.float64),
        )
