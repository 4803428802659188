"""Crops, flips, colours and changes of sharpness, batched on tensors."""

import torch
from torch.nn import functional as F

SMALL_PX = 64


def crop(images: torch.Tensor, size_px: int, smallest: float) -> torch.Tensor:
    """(N, 3, S, S) in 0..1 to (N, 3, P, P): area from `smallest` to 1, aspect 3/4 to 4/3, flipped half the time.

    Of pictures smaller than P every third is enlarged less than the others, or shrunk, with its reflection around it.
    """
    count = len(images)
    scale = torch.empty(count).uniform_(smallest, 1).sqrt()
    if images.shape[-1] < size_px:
        scale = torch.where(torch.rand(count) < 0.35, torch.empty(count).uniform_(1, 2), scale)
    ratio = torch.empty(count).uniform_(-0.28, 0.28).exp().sqrt()
    flip = torch.randint(0, 2, (count,)) * 2 - 1
    most = scale.clamp(min=1)
    width, height = (scale * ratio).minimum(most), (scale / ratio).minimum(most)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = width * flip, height
    theta[:, 0, 2] = (torch.rand(count) * 2 - 1) * (1 - width).abs()
    theta[:, 1, 2] = (torch.rand(count) * 2 - 1) * (1 - height).abs()
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


def soften(images: torch.Tensor, share: float = 0.6) -> torch.Tensor:
    """A share of the batch through 40 to 64 px, as soft as Tiny-ImageNet's pictures are when enlarged."""
    side, size_px = int(torch.randint(40, 65, ())), images.shape[-1]
    chosen = torch.rand(len(images)) < share
    if side < size_px and chosen.any():
        small = F.interpolate(images[chosen], (side, side), mode="bilinear", antialias=True)
        images[chosen] = F.interpolate(small, (size_px, size_px), mode="bicubic").clamp(0, 1)
    return images


def sharpen(images: torch.Tensor, share: float = 0.6) -> torch.Tensor:
    """Unsharp mask over 3 by 3 pixels, by an amount drawn for each image of a share of the batch."""
    amount = torch.rand(len(images), 1, 1, 1) * 1.5 * (torch.rand(len(images), 1, 1, 1) < share)
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    return (images + amount * (images - blurred)).clamp(0, 1)


def augment(images: torch.Tensor, size_px: int, smallest: float = 0.6) -> torch.Tensor:
    """(N, S, S, 3) uint8 to (N, 3, P, P) in 0..1.

    Large sources are halved first: sampled as they are they alias, and so much contrast in a few images takes over
    every batch norm. Large and small sources show different things, so sharpness must not tell which is which.
    """
    floats, large = images.permute(0, 3, 1, 2).float() / 255, images.shape[1] > SMALL_PX
    while floats.shape[-1] >= 1.7 * size_px:
        floats = F.avg_pool2d(floats, 2)
    cropped = coarsen(colour(crop(floats, size_px, smallest)))
    if large:
        return soften(cropped)
    return sharpen(cropped) if size_px > images.shape[1] else cropped
