"""One process of one thread for each core, their gradients averaged."""

from collections.abc import Sequence

import torch
import torch.distributed as dist


def share_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Replaces each gradient by its mean over the processes."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))
