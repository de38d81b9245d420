"""The latent representation z, one tensor or a tree of tensors; its gradients and its moves are flat vectors."""

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten


class Latent:
    """z as the encoder returns it. The leaves that carry a gradient move; the other leaves stay as they are.

    A gradient or a direction in latent space is one vector: the leaves that move, flattened, one after the other.

    Args:
        z: a tensor, or any tree of them that `torch.utils._pytree` knows: tuples, lists, dicts, Hugging Face's outputs.

    Raises:
        TypeError: z holds no tensor.
        ValueError: no tensor of z carries a gradient.
    """

    def __init__(self, z):
        self.leaves, self.spec = tree_flatten(z)
        tensors = [leaf for leaf in self.leaves if isinstance(leaf, Tensor)]
        if not tensors:
            raise TypeError(f"`encoder(inputs)` must return a tensor z or a tree of them, found {type(z).__name__}.")
        self.places = [i for i, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]
        if not self.places:
            raise ValueError(
                "`encoder(inputs)` must carry a gradient, found z.requires_grad=False; "
                "does the encoder detach its output or run under no_grad?"
            )
        if any(leaf.is_complex() for leaf in self.tensors):
            raise TypeError(
                "`encoder(inputs)` must return real tensors, found complex ones: slopes and weights are sums of real "
                "products. Return the real and the imaginary part (torch.view_as_real)."
            )

    @property
    def tensors(self) -> list[Tensor]:
        """The leaves that move."""
        return [self.leaves[place] for place in self.places]

    @property
    def device(self) -> torch.device:
        return self.tensors[0].device

    def rebuild(self, tensors: list[Tensor]):
        """z with the leaves that move replaced by these tensors."""
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        return tree_unflatten(leaves, self.spec)

    def split(self, vector: Tensor) -> list[Tensor]:
        """A vector in latent space, cut to the shapes and cast to the dtypes of the leaves that move."""
        pieces = vector.split([tensor.numel() for tensor in self.tensors])
        return [piece.view(leaf.shape).to(leaf.dtype) for piece, leaf in zip(pieces, self.tensors, strict=True)]

    def moved(self, direction: Tensor, eta: float):
        """z − η d, as a tree."""
        pairs = zip(self.tensors, self.split(direction), strict=True)
        return self.rebuild([torch.add(leaf.detach(), piece, alpha=-eta) for leaf, piece in pairs])


def flatten_gradients(gradients: list[list[Tensor]]) -> Tensor:
    """(T, n) from one list of T gradients per leaf; at least float32, since sums over the gradients follow."""
    rows = [torch.stack(of_leaf).reshape(len(of_leaf), of_leaf[0].numel()) for of_leaf in gradients]
    rows = [block.float() if block.element_size() < 4 else block for block in rows]
    return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)
