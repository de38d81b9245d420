"""A diagonal metric for the encoder's step."""

import torch
from torch import Tensor


class RootMeanSquare:
    r"""d = P⁻¹ g with P = diag(√v̂) + ε, v ← μv + (1 − μ)g², v̂ = v / (1 − μⁿ) after n steps: the metric of RMSProp.

    v̂ is v with its start at zero corrected, as in Adam.

    Args:
        decay: μ in [0, 1).
        eps: ε > 0, for entries that have no gradient.

    Raises:
        ValueError: μ or ε out of range.

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
