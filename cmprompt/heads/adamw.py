"""AdamW by torch's own function. The class around it imports torch's compiler, which adds two seconds to a fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class AdamW:
    """Steps as `torch.optim.AdamW` makes them (Loshchilov and Hutter 2019), on groups as it takes them.

    rate   of the next step; may be set between two
    decay  where a group has no `weight_decay` of its own
    """

    def __init__(
        self, groups: Sequence[Mapping[str, Any]], rate: float, *, decay: float = 0.01, eps: float = 1e-8
    ) -> None:
        self.rate, self._eps = rate, eps
        self._groups = [_Group(list(group["params"]), group.get("weight_decay", decay)) for group in groups]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self._groups:
            for tensor in group.tensors:
                tensor.grad = None

    def step(self) -> None:
        """Move every tensor that has a gradient."""
        import torch
        from torch.optim.adamw import adamw

        with torch.no_grad():
            for group in self._groups:
                if moved := list(group.moved()):
                    tensors, grads, means, squares, steps = map(list, zip(*moved, strict=True))
                    adamw(
                        tensors, grads, means, squares, [], steps, fused=True, amsgrad=False, beta1=0.9, beta2=0.999,
                        lr=self.rate, weight_decay=group.decay, eps=self._eps, maximize=False,
                    )  # fmt: skip


class _Group:
    """Tensors that decay alike, with the running means of their gradients and of those squared."""

    def __init__(self, tensors: list[Tensor], decay: float) -> None:
        import torch

        self.tensors, self.decay = tensors, decay
        self.means = [torch.zeros_like(tensor) for tensor in tensors]
        self.squares = [torch.zeros_like(tensor) for tensor in tensors]
        self.steps = [torch.zeros(()) for _ in tensors]

    def moved(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """Those with a gradient: tensor, gradient, mean, mean of squares, steps so far."""
        for tensor, mean, square, steps in zip(self.tensors, self.means, self.squares, self.steps, strict=True):
            if tensor.grad is not None:
                yield tensor, tensor.grad, mean, square, steps
