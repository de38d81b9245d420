"""Sums over the processes that share a batch, each of which holds the whole model and a part of the batch."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_leaves


class Ranks:
    """The processes of a `torch.distributed` group; None means one process: nothing is sent, no number changes.

    The loss of the whole batch is Σ_r (n_r / N) L_t^r over ranks r with n_r of the N samples. Every rank
    differentiates its own term, so that sums over ranks give the losses, gradients and products of the whole batch.

    Args:
        group: the group, or None.
        inputs: the batch of this rank, or its z; the length of its first tensor with a dimension is n_r.
        device: where the sums are taken.
    """

    def __init__(self, group, inputs=None, device: torch.device | None = None):
        self.group, self.device, self.share = group, device, 1.0
        if group is not None:
            size = next(len(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor) and leaf.dim())
            self.share = size / self.sum([torch.tensor(float(size), dtype=torch.float64, device=device)])[0].item()

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """Σ over ranks of each tensor, in one message."""
        if self.group is None or not tensors:
            return tensors
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        dist.all_reduce(flat, group=self.group)
        pieces = flat.split([tensor.numel() for tensor in tensors])
        return [piece.view(tensor.shape).to(tensor.dtype) for piece, tensor in zip(pieces, tensors, strict=True)]

    def agree(self, values: Tensor) -> Tensor:
        """The first rank's values, on all ranks: a rule may draw random numbers, and each rank draws different ones."""
        if self.group is None:
            return values
        values = values.to(self.device)
        dist.broadcast(values, src=dist.get_global_rank(self.group, 0), group=self.group)
        return values.cpu()

    def weigh(self, loss: Tensor) -> Tensor:
        """(n_r / N) L: this rank's term of the loss of the whole batch; float64 also on a rank without a label."""
        return loss if self.group is None else self.share * loss.double()
