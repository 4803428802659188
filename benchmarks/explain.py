"""Do heat maps point at what they name, and at what matters?

    python benchmarks/explain.py [--model tiny]

Pointing game (Zhang et al. 2018): drawn scenes of two things, left and right; the map's peak should fall on the thing
that its label names: counted are the half of the picture that the thing is on, the square that the thing fills (about
a seventh of the picture), and that square with the game's usual tolerance around it (15 pixels of a picture of 224, as
in TorchRay). A map without any heat misses. Deletion (Petsiuk et al. 2018, RISE): the hottest
places of photos turn grey first, and the area under the probability of the label that the model takes the photo for is
measured; lower is better. Each photo is its own control: the area is compared with the mean over random orders.
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
from cmprompt.heads.verdict import bootstrap_counts
from cmprompt.heads.zero_shot import zero_shot
from cmprompt.images import from_frame
from cmprompt.labels import label_set
from cmprompt.metrics import softmax
from cmprompt.prompts import expand, load_prompt_set
from cmprompt.types import Array, Encoder, Frame

SCENES = 5  # of each two things
TOLERANCE_PX = 15 / 224 * SIZE_PX
STEPS = 16
RANDOM_ORDERS = 8  # of each photo
CELLS = 8  # the picture is deleted in 8 x 8 squares


def weights(encoder: Encoder, names: list[str], prompts: list[str]) -> Array:
    """(C, D) of some labels."""
    head: Any = zero_shot(encoder, expand(label_set(names), [load_prompt_set(name) for name in prompts]))
    weight: Array = head.weight
    return weight


def pointing(encoder: Encoder, method: str) -> tuple[float, ...]:
    """The share of maps whose peak is on the right half, in the square of the thing, and no farther than TOLERANCE_PX
    from it."""
    names = list(THINGS)
    weight = weights(encoder, names, ["photo", "art"])
    hits = []
    pairs = SCENES * list(permutations(range(len(names)), 2))
    for seed, pair in enumerate(pairs):
        picture, squares = scene(names[pair[0]], names[pair[1]], seed)
        heat = heat_of(encoder, picture, weight[list(pair)], (names[pair[0]], names[pair[1]]), method)  # type: ignore
        for side, (x, y, r) in enumerate(squares):
            full = heat.on_picture(side, picture.size)
            row, column = np.unravel_index(full.argmax(), full.shape)
            away = np.hypot(max(abs(column - x) - r, 0), max(abs(row - y) - r, 0))  # pixels
            found = (column >= SIZE_PX // 2) == bool(side), away == 0, away <= TOLERANCE_PX
            hits.append(found if full.any() else (False, False, False))
    return tuple(np.mean(hits, axis=0).tolist())


def square_share(margin: float = 0) -> float:
    """The part of the picture that a thing's square and a margin fill, on average: what a random peak hits."""
    reach = [r for seed in range(SCENES) for _, _, r in scene("sun", "tree", seed)[1]]
    areas = [(2 * r) ** 2 + 4 * (2 * r) * margin + np.pi * margin**2 for r in reach]
    return float(np.mean(areas)) / SIZE_PX**2


def photos(data: Path, count: int) -> tuple[list[Image.Image], list[str]]:
    """Photos of clothes, and the classes they belong to."""
    paths = sorted((data / "clothing" / "validation").glob("*/*.jpg"))
    chosen = [paths[place] for place in np.linspace(0, len(paths) - 1, count).astype(int)]
    return [Image.open(path).convert("RGB") for path in chosen], sorted({path.parent.name for path in chosen})


def deletion(encoder: Encoder, data: Path, count: int) -> dict[str, Array]:
    """(N,) the area under each photo's deletion curve, for each method and for random orders, the mean of theirs."""
    pictures, names = photos(data, count)
    weight = weights(encoder, names, ["photo"])
    dice = np.random.default_rng(0)
    areas: dict[str, list[float]] = {name: [] for name in (*METHODS[1:], "random")}
    for picture in pictures:
        pixels = from_frame(Frame(np.asarray(picture)), encoder.preprocess).pixels
        best = int((encoder.encode_images(pixels[None]) @ weight.T).argmax())
        for method in METHODS[1:]:
            shown = np.array([best])
            heat = heat_of(encoder, picture, weight, tuple(names), method, shown).maps[0]  # type: ignore[arg-type]
            areas[method].append(_area(encoder, pixels, _hottest_first(heat), weight, best))
        orders = [dice.permutation(CELLS * CELLS) for _ in range(RANDOM_ORDERS)]
        areas["random"].append(float(np.mean([_area(encoder, pixels, order, weight, best) for order in orders])))
    return {name: np.array(found) for name, found in areas.items()}


def win_rate(areas: Array, random: Array) -> tuple[float, float, float]:
    """The share of photos that lose their label faster than at random, a tie half, and its 95 % bootstrap interval."""
    wins = (areas < random) + 0.5 * (areas == random)
    drawn = np.concatenate([counts @ wins for counts in bootstrap_counts(len(wins), 1000, 0)]) / len(wins)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(wins.mean()), float(low), float(high)


def _hottest_first(heat: Array) -> Array:
    coarse = np.asarray(Image.fromarray(heat).resize((CELLS, CELLS), Image.Resampling.BICUBIC))
    order: Array = np.argsort(-coarse.ravel(), kind="stable")
    return order


def _area(encoder: Encoder, pixels: Array, order: Array, weight: Array, label: int) -> float:
    """0 to 1: under the probability of one label while squares vanish in this order."""
    logits = encoder.logit_scale * encoder.encode_images(_deleted(pixels, order)) @ weight.T
    return float(np.trapezoid(softmax(logits)[:, label]) / STEPS)


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
    areas = deletion(encoder, asked.data, asked.photos)
    rows: list[dict[str, Any]] = [
        {"method": name, "pointing": pointing(encoder, name), "area": float(areas[name].mean()),
         "win rate": win_rate(areas[name], areas["random"])}
        for name in METHODS[1:]
    ]  # fmt: skip
    rows.append(
        {
            "method": "random",
            "pointing": (0.5, square_share(), square_share(TOLERANCE_PX)),
            "area": float(areas["random"].mean()),
        }
    )
    names = (
        "method",
        "peak on the right half",
        "in the thing's square",
        "within the tolerance of it",
        "area under the label's probability",
        "photos faster than at random",
    )
    body = table(names, map(_cells, rows))
    print(save_page("explain", "What heat maps point at", body, {"rows": rows}, facts, asked.out))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    faster = "{:.1%} ({:.1%} to {:.1%})".format(*row["win rate"]) if "win rate" in row else ""
    return row["method"], *map("{:.1%}".format, row["pointing"]), f"{row['area']:.3f}", faster


if __name__ == "__main__":
    main()
