"""Crops, flips, colours and low resolution, batched on tensors."""

import torch
from torch.nn import functional as F


def crop(images: torch.Tensor, size_px: int, smallest: float) -> torch.Tensor:
    """(N, 3, S, S) in 0..1 to (N, 3, P, P): area from `smallest` to 1, aspect 3/4 to 4/3, flipped half the time."""
    count = len(images)
    scale = torch.empty(count).uniform_(smallest, 1).sqrt()
    ratio = torch.empty(count).uniform_(-0.28, 0.28).exp().sqrt()
    flip = torch.randint(0, 2, (count,)) * 2 - 1
    width, height = (scale * ratio).clamp(max=1), (scale / ratio).clamp(max=1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = width * flip, height
    theta[:, 0, 2] = (torch.rand(count) * 2 - 1) * (1 - width)
    theta[:, 1, 2] = (torch.rand(count) * 2 - 1) * (1 - height)
    grid = F.affine_grid(theta, [count, 3, size_px, size_px], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def colour(images: torch.Tensor, strength: float = 0.2) -> torch.Tensor:
    """Brightness, contrast and saturation, each drawn for each image; one in twenty is grey."""
    count = len(images)
    bright, contrast, saturation = (1 + torch.empty(3, count, 1, 1, 1).uniform_(-strength, strength)).unbind()
    saturation = torch.where(torch.rand(count, 1, 1, 1) < 0.05, 0.0, saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * contrast + mean * bright
    grey = images.mean(1, keepdim=True)
    return (grey + (images - grey) * saturation).clamp(0, 1)


def coarsen(images: torch.Tensor, share: float = 0.1) -> torch.Tensor:
    """A share of the batch at half resolution, as small and much compressed pictures are."""
    chosen = torch.rand(len(images)) < share
    if chosen.any():
        small = F.avg_pool2d(images[chosen], 2)
        images[chosen] = F.interpolate(small, images.shape[-2:], mode="bilinear", align_corners=False)
    return images


def augment(images: torch.Tensor, size_px: int, smallest: float = 0.6) -> torch.Tensor:
    """(N, S, S, 3) uint8 to (N, 3, P, P) in 0..1.

    Large sources are halved first: sampled as they are they alias, and so much contrast in a few images takes over
    every batch norm.
    """
    floats = images.permute(0, 3, 1, 2).float() / 255
    while floats.shape[-1] >= 1.7 * size_px:
        floats = F.avg_pool2d(floats, 2)
    return coarsen(colour(crop(floats, size_px, smallest)))
