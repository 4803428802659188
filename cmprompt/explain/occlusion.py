"""Heat maps by covering: what the score loses when a part of the picture is hidden. Any encoder, no gradients."""

from __future__ import annotations

import numpy as np

from cmprompt.types import Array, Encoder

OCCLUSION = "occlusion (Zeiler and Fergus 2014)"
WINDOWS = 8  # across the picture, each of twice its share, so that they overlap


def occlusion_maps(encoder: Encoder, pixels: Array, aims: Array) -> Array:
    """(3, H, W) uint8 pixels and (C, D) directions -> (C, 8, 8) float32, nothing below 0.

    Each cell is the mean loss, over the windows that hide it, of the product of image vector and direction.
    """
    edges = np.linspace(0, pixels.shape[1], WINDOWS + 1).astype(int)
    spans = [(start, start + 2) for start in range(-1, WINDOWS)]  # in cells; those at the rim stick out
    windows = [(rows, columns) for rows in spans for columns in spans]
    grey = pixels.mean((1, 2)).astype(np.uint8)[:, None, None]
    covered = np.stack([_covered(pixels, grey, edges, *window) for window in windows])
    scores = encoder.encode_images(np.concatenate([pixels[None], covered])) @ aims.T  # (1 + windows, C)
    heat, hidden = np.zeros((len(aims), WINDOWS, WINDOWS), np.float32), np.zeros((WINDOWS, WINDOWS), np.float32)
    for (rows, columns), loss in zip(windows, scores[0] - scores[1:], strict=True):
        cells = slice(max(rows[0], 0), rows[1]), slice(max(columns[0], 0), columns[1])
        heat[:, *cells] += loss[:, None, None]
        hidden[cells] += 1
    maps: Array = np.maximum(heat / hidden, 0)
    return maps


def _covered(pixels: Array, grey: Array, edges: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    picture = pixels.copy()
    top, bottom, left, right = (edges[np.clip(place, 0, WINDOWS)] for place in (*rows, *columns))
    picture[:, top:bottom, left:right] = grey
    return picture
