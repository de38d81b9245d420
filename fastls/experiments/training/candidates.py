r"""Candidates for a better search without a bound, from the literature and our own, tried beside what they change.

They live here and not among the algorithms, since a candidate has to earn its place first: notebook 07 tells how they
did. Each changes one thing in FBLS with the gain, or in BlockFBLS.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastls.algorithms.block_search import BlockFBLS
from fastls.algorithms.line_search import NOTHING_TO_SEARCH, Backtracking, Phi, SearchResult, Slopes
from fastls.algorithms.optimizers import FBLS
from fastls.algorithms.spaces import Evaluation, squared_norm
from fastls.models.multitask import MultiTaskModel, task_loss

POLYAK, LONGEST = 0.1, 10.0  # c of the Polyak step L/(c‖g‖²), and the longest one, as in PoNoS
KEPT = 0.99  # share that a running mean keeps from step to step


@dataclass
class Changed:
    """`Backtracking` with one thing changed.

    Attributes:
        search: the search that is changed.
        memory: what a step leaves to the next one.
    """

    search: Backtracking
    memory: dict[str, Any] = field(default_factory=dict)
    needs_trials: ClassVar[bool] = True

    def check_bound(self, lr_ub: float) -> None:
        self.search.check_bound(lr_ub)


class EveryOther(Changed):
    """Searches in every other step alone, and takes the last accepted step in between.

    Source: SALSA (https://arxiv.org/abs/2407.20650) searches once in several steps.
    """

    def __call__(self, phi: Phi, losses: Tensor, slopes: Slopes, lr_ub: float, previous: float) -> SearchResult:
        searched = self.memory.get("searched", False)
        self.memory["searched"] = not searched
        if searched and previous < lr_ub and slopes.descend():
            return SearchResult(previous, trials=0, accepted=True)
        return self.search(phi, losses, slopes, lr_ub, previous)


class NonMonotone(Changed):
    r"""φ_t(η) ≤ C_t − ηβs_t with C_t ← max(L_t, (kC_t + L_t)/(k + 1)) after k steps: a slow mean, L_t at least.

    Source: the test of PoNoS (https://arxiv.org/abs/2306.12747), after Zhang and Hager (2004), for each task.
    """

    def __call__(self, phi: Phi, losses: Tensor, slopes: Slopes, lr_ub: float, previous: float) -> SearchResult:
        count, reference = self.memory.get("count", 0), self.memory.get("reference", losses)
        reference = torch.maximum(losses, (count * reference + losses) / (count + 1))
        self.memory = {"count": count + 1, "reference": reference}
        return self.search(phi, reference, slopes, lr_ub, previous)


class PolyakStart(Changed):
    """Begins at min_t L_t/(0.1 s_t), 10 at most, in place of 1.1 times the last step.

    Source: the first step of PoNoS, without its memory of earlier trials; the least over tasks, since all must pass.
    """

    def __call__(self, phi: Phi, losses: Tensor, slopes: Slopes, lr_ub: float, previous: float) -> SearchResult:
        return self.search(phi, losses, slopes, lr_ub, polyak_step(losses, slopes) / self.search.growth)


class PoNoS(NonMonotone):
    """`NonMonotone` and `PolyakStart` at once, with the β of what is changed in place of PoNoS's ½."""

    def __call__(self, phi: Phi, losses: Tensor, slopes: Slopes, lr_ub: float, previous: float) -> SearchResult:
        return super().__call__(phi, losses, slopes, lr_ub, polyak_step(losses, slopes) / self.search.growth)


class Smoothed(Changed):
    r"""m(L_t − φ_t(η)) ≥ ηβ m(s_t), m the running mean over steps, the trial's among them, that keeps 0.99.

    Times 1/(1 − 0.99), this is the test of `Backtracking` at other losses and slopes.

    Source: the smoothed test of SALSA, for each task; what is kept is our choice.
    """

    def __call__(self, phi: Phi, losses: Tensor, slopes: Slopes, lr_ub: float, previous: float) -> SearchResult:
        old = self.memory or {"fell": torch.zeros_like(losses), "own": 0 * slopes.own, "shared": 0 * slopes.shared}
        weight, tried = KEPT / (1 - KEPT), []

        def remembered(eta: float) -> Tensor:
            tried.append(phi(eta))
            return tried[-1]

        smooth = Slopes(slopes.own + weight * old["own"], slopes.shared + weight * old["shared"])
        result = self.search(remembered, losses + weight * old["fell"], smooth, lr_ub, previous)
        if result.accepted:
            new = {"fell": losses - tried[-1], "own": slopes.own, "shared": slopes.shared}
            self.memory = {name: KEPT * old[name] + (1 - KEPT) * new[name] for name in new}
        return result


def polyak_step(losses: Tensor, slopes: Slopes) -> float:
    return min(LONGEST, (losses / (POLYAK * slopes.total)).min().item())


class ChangedFBLS(FBLS):
    """FBLS with the gain and a changed search, whose memory goes into the state that a checkpoint keeps.

    Raises:
        ValueError: in a step, a task that is not active: the memory has a place for each.
    """

    def __init__(self, model: MultiTaskModel, lr_ub: float, direction: str, search: Changed):
        super().__init__(model, lr_ub, direction, search, match_gain=True)

    def _search(self, batch: Evaluation, direction: Tensor, active: Tensor, slopes: Slopes) -> SearchResult:
        if not active.all():
            raise ValueError(f"A changed search must find every task active, found {active.tolist()}; use FBLS itself.")
        return super()._search(batch, direction, active, slopes)

    def state_dict(self) -> dict:
        return super().state_dict() | {"memory": self.line_search.memory}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        device = self.param_groups[0]["params"][0].device
        self.line_search.memory = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in state_dict["memory"].items()
        }


class SequentialBlockFBLS(BlockFBLS):
    """`BlockFBLS` whose decoders step where the encoder's accepted trial has put z: Gauss-Seidel in place of Jacobi.

    Their gradients are taken there too, and the tests add up to one of the joint move, with g_t = ∂L_t/∂θ_t at the
    moved z: L_t(z − ηρd_z, θ_t − η_t g_t) ≤ L_t − ηβρ ⟨∂L_t/∂z, d_z⟩ − η_tβ ‖g_t‖². Costs a decoder forward and a
    decoder backward a task more. Decoders without buffers alone: the further pass would move running statistics.
    """

    def _search_encoder(
        self, batch: Evaluation, trial_direction: Tensor, active: Tensor, shared: Tensor
    ) -> SearchResult:
        result = super()._search_encoder(batch, trial_direction, active, shared)
        step_size = result.step_size if result.accepted else 0.0
        self._z = torch.add(batch.z.detach(), trial_direction.view_as(batch.z), alpha=-step_size)
        self._losses = []
        for t, (task, decoder) in enumerate(self.model.decoders.items()):
            with batch.decoder_starts[t].replay():
                loss = task_loss(self.model, task, decoder(self._z), batch.targets)
            parameters = list(batch.decoder_parameters[t].values())
            batch.own_gradients[t] = list(torch.autograd.grad(loss, parameters))
            self._losses.append(loss.detach())
        batch.passes.decoder_forward += len(self._losses)
        batch.passes.decoder_backward += len(self._losses)
        return result

    def _search_decoder(self, batch: Evaluation, t: int, own: Tensor) -> SearchResult:
        own = squared_norm(batch.own_gradients[t], batch.losses)[None]
        if own == 0:
            return NOTHING_TO_SEARCH

        def phi(eta: float) -> Tensor:
            return batch.trial_loss(t, self._z, eta)[None]

        previous = self.param_groups[1 + t]["previous_step"]
        return self.line_search(phi, self._losses[t][None], Slopes(own, torch.zeros_like(own)), self.lr, previous)


CHANGES = {
    "searched every other step": EveryOther,
    "non-monotone test": NonMonotone,
    "Polyak start": PolyakStart,
    "PoNoS: both": PoNoS,
    "smoothed test": Smoothed,
}
SEQUENTIAL = "decoders after the encoder"  # `SequentialBlockFBLS`, the one change of BlockFBLS
