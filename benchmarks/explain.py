"""Do heat maps point at what they name, and at what matters?

    python benchmarks/explain.py [--model tiny]

Pointing game (Zhang et al. 2018): drawn scenes of two things, left and right; the map's peak should fall on the half
that its label names. Deletion (Petsiuk et al. 2018): the hottest places of photos turn grey first; the score of the
label should fall faster than when places go in random order. Lower is better.
"""

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from harness import about, parser, save_page, table
from PIL import Image
from scenes import SIZE_PX, THINGS, scene

from cmprompt.encoders import load_encoder
from cmprompt.explain.heat import METHODS, heat_of
from cmprompt.heads.zero_shot import zero_shot
from cmprompt.images import from_frame
from cmprompt.prompts import expand, label_set, load_prompt_set
from cmprompt.types import Array, Encoder, Frame

STEPS = 16
CELLS = 8  # the picture is deleted in 8 x 8 squares


def weights(encoder: Encoder, names: list[str], prompts: list[str]) -> Array:
    """(C, D) of some labels."""
    head: Any = zero_shot(encoder, expand(label_set(names), [load_prompt_set(name) for name in prompts]))
    weight: Array = head.weight
    return weight


def pointing(encoder: Encoder, method: str) -> float:
    """The share of maps whose peak is on the right half."""
    names = list(THINGS)
    weight = weights(encoder, names, ["photo", "art"])
    hits = []
    for seed, pair in enumerate(permutations(range(len(names)), 2)):
        picture = scene(names[pair[0]], names[pair[1]], seed)
        heat = heat_of(encoder, picture, weight[list(pair)], (names[pair[0]], names[pair[1]]), method)  # type: ignore
        for side in (0, 1):
            full = heat.on_picture(side, picture.size)
            column = np.unravel_index(full.argmax(), full.shape)[1]
            hits.append((column >= SIZE_PX // 2) == bool(side))
    return float(np.mean(hits))


def photos(data: Path, count: int) -> tuple[list[Image.Image], list[str]]:
    """Photos of clothes with the class each belongs to."""
    paths = sorted((data / "clothing" / "validation").glob("*/*.jpg"))
    chosen = [paths[place] for place in np.linspace(0, len(paths) - 1, count).astype(int)]
    return [Image.open(path).convert("RGB") for path in chosen], [path.parent.name for path in chosen]


def deletion(encoder: Encoder, data: Path, method: str | None, count: int) -> float:
    """Mean score left while squares vanish, hottest first (in random order for None), as a share of the first score."""
    pictures, targets = photos(data, count)
    names = sorted(set(targets))
    weight = weights(encoder, names, ["photo"])
    dice, areas = np.random.default_rng(0), []
    for picture, target in zip(pictures, targets, strict=True):
        pixels = from_frame(Frame(np.asarray(picture)), encoder.preprocess).pixels
        order = dice.permutation(CELLS * CELLS)
        if method is not None:
            heat = heat_of(encoder, picture, weight, tuple(names), method).maps[names.index(target)]  # type: ignore
            coarse = np.asarray(Image.fromarray(heat).resize((CELLS, CELLS), Image.Resampling.BICUBIC))
            order = np.argsort(-coarse.ravel(), kind="stable")
        logits = encoder.logit_scale * encoder.encode_images(_deleted(pixels, order)) @ weight.T
        odds = np.exp(logits - logits.max(1, keepdims=True))
        score = odds[:, names.index(target)] / odds.sum(1)
        areas.append(score.mean() / score[0])
    return float(np.mean(areas))


def _deleted(pixels: Array, order: Array) -> Array:
    """(STEPS + 1, 3, H, W): more and more squares of the mean colour."""
    grey, edges = pixels.mean((1, 2)).astype(np.uint8)[:, None, None], np.linspace(0, pixels.shape[1], CELLS + 1)
    frames, current = [pixels.copy()], pixels.copy()
    for part in np.array_split(order, STEPS):
        for cell in part:
            row, column = divmod(int(cell), CELLS)
            top, bottom, left, right = (int(edges[place]) for place in (row, row + 1, column, column + 1))
            current[:, top:bottom, left:right] = grey
        frames.append(current.copy())
    return np.stack(frames)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="tiny")
    options.add_argument("--photos", type=int, default=100)
    asked = options.parse_args()
    encoder, facts = load_encoder(asked.model), about(model=asked.model)
    rows = [(m, pointing(encoder, m), deletion(encoder, asked.data, m, asked.photos)) for m in METHODS[1:]]
    rows.append(("random", 0.5, deletion(encoder, asked.data, None, asked.photos)))
    names = ("method", "peak on the right half", "score left, hottest first")
    body = table(names, ((name, f"{share:.1%}", f"{left:.3f}") for name, share, left in rows))
    print(save_page("explain", "What heat maps point at", body, {"rows": rows}, facts, asked.out))


if __name__ == "__main__":
    main()
