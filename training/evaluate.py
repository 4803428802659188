"""Validation figures of a model under training, on the val parts; they select, nothing is trained on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from training.concepts import LABELS, first_name
from training.data import load
from training.model import encode_text, native_bf16, pixels
from training.texts import Tokens

if TYPE_CHECKING:
    from training.pictures import Pictures

PROMPTS = ("a photo of a {}.", "a picture of a {}", "{}", "a photo of the {}.")
CATS = ("n02123045", "n02123394", "n02124075")
DOGS = ("n02085620", "n02094433", "n02099601", "n02099712", "n02106662", "n02113799")


@torch.inference_mode()
def text_head(model: open_clip.CLIP, tokens: Tokens, names: Sequence[str]) -> torch.Tensor:
    """(C, D) unit rows: the mean over the prompts."""
    rows = encode_text(model, tokens([p.format(name) for name in names for p in PROMPTS]))
    return F.normalize(rows.view(len(names), len(PROMPTS), -1).mean(1), dim=1)


@torch.inference_mode()
def image_rows(
    model: open_clip.CLIP, images: NDArray[np.uint8], rows: NDArray[np.int64] | None, size_px: int
) -> torch.Tensor:
    """(N, D) unit rows of some of the images (all when `rows` is None)."""
    rows = np.arange(len(images)) if rows is None else rows
    out = []
    for start in range(0, len(rows), 200):
        batch = torch.from_numpy(images[rows[start : start + 200]]).permute(0, 3, 1, 2).float() / 255
        batch = F.interpolate(batch, (size_px, size_px), mode="bilinear", antialias=True).clamp(0, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16()):
            seen = model.visual(pixels(batch))
        out.append(F.normalize(seen.float(), dim=1))
    return torch.cat(out)


def hits(logits: torch.Tensor, target: torch.Tensor, k: int = 1) -> float:
    return 100 * (logits.topk(k).indices == target[:, None]).any(1).float().mean().item()


Head = Callable[[Sequence[str]], torch.Tensor]  # C names to (C, D) unit rows


def evaluate(
    model: open_clip.CLIP,
    tokens: Tokens,
    cache: Path,
    wnids: dict[str, str],
    size_px: int,
    held_out: Collection[str] = (),
) -> dict[str, float]:
    """Percentages of both towers; with classes held out, also 20-way over those alone."""
    model.eval()

    def head(names: Sequence[str]) -> torch.Tensor:
        return text_head(model, tokens, names)

    figures = labelling(model, head, cache, wnids, size_px, held_out) | retrieval(model, tokens, cache, size_px)
    return {name: round(value, 1) for name, value in figures.items()}


def concept_figures(pictures: Pictures, cache: Path, size_px: int) -> dict[str, float]:
    """Percentages of the image tower alone, against the concepts it learns from; the tower is left in training."""
    pictures.model.eval()
    with torch.inference_mode():
        heads = pictures.space.heads()
    row = pictures.corpus.targets.row

    def head(names: Sequence[str]) -> torch.Tensor:
        return heads[[row[LABELS.get(name, name)] for name in names]]

    figures = labelling(pictures.model, head, cache, pictures.corpus.known_wnids, size_px, ())
    pictures.model.train()
    return {name: round(value, 1) for name, value in figures.items()}


@torch.inference_mode()
def labelling(
    model: open_clip.CLIP, head: Head, cache: Path, wnids: dict[str, str], size_px: int, held_out: Collection[str]
) -> dict[str, float]:
    figures = {}
    images, labels = load(cache, "tiny-val")
    order = sorted(wnids)
    known = np.flatnonzero(np.isin(labels, order))
    rows, labels = image_rows(model, images, known, size_px), labels[known]
    logits = rows @ head([first_name(wnids, w) for w in order]).T
    target = torch.tensor([order.index(w) for w in labels])
    figures["tiny top1"], figures["tiny top5"] = hits(logits, target), hits(logits, target, 5)
    pet = torch.tensor([w in CATS + DOGS for w in labels])
    dog = torch.tensor([int(w in DOGS) for w in labels])[pet]
    figures["cat or dog"] = hits(rows[pet] @ head(["cat", "dog"]).T, dog)
    if held_out:
        unseen = torch.tensor([w in held_out for w in labels])
        columns = torch.tensor([w in held_out for w in order])
        figures["held out"] = hits(logits[unseen][:, columns], (columns.cumsum(0) - 1)[target[unseen]])
        seen = hits(logits[~unseen][:, ~columns], ((~columns).cumsum(0) - 1)[target[~unseen]])
        figures["tiny top1 of the others"] = seen
    for name in ("cifar-val", "clothing-val"):
        images, labels = load(cache, name)
        names = sorted(set(labels))
        spoken = [LABELS.get(n, n) if name == "clothing-val" else n for n in names]
        logits = image_rows(model, images, None, size_px) @ head(spoken).T
        figures[name] = hits(logits, torch.tensor([names.index(n) for n in labels]))
    return figures


@torch.inference_mode()
def retrieval(model: open_clip.CLIP, tokens: Tokens, cache: Path, size_px: int) -> dict[str, float]:
    images, captions = load(cache, "flickr-val")
    rows = image_rows(model, images, None, size_px)
    texts = torch.cat([encode_text(model, tokens(list(five))) for five in captions])
    target = torch.arange(len(rows)).repeat_interleave(captions.shape[1])
    return {f"flickr R@{k}": hits(texts @ rows.T, target, k) for k in (1, 10)}
