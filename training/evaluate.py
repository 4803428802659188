"""Validation figures of a model under training, on the val parts; they select, nothing is trained on them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch.nn import functional as F

from training.concepts import LABELS, without_latin
from training.data import load
from training.model import encode_text, pixels
from training.texts import Tokens

PROMPTS = ("a photo of a {}.", "a picture of a {}", "{}", "a photo of the {}.")
CATS = ("n02123045", "n02123394", "n02124075")
DOGS = ("n02085620", "n02094433", "n02099601", "n02099712", "n02106662", "n02113799")


@torch.inference_mode()
def text_head(model: open_clip.CLIP, tokens: Tokens, names: Sequence[str]) -> torch.Tensor:
    """(C, D) unit rows: the mean over the prompts."""
    rows = encode_text(model, tokens([p.format(name) for name in names for p in PROMPTS]))
    return F.normalize(rows.view(len(names), len(PROMPTS), -1).mean(1), dim=1)


@torch.inference_mode()
def image_rows(model: open_clip.CLIP, cache: Path, name: str, size_px: int) -> torch.Tensor:
    """(N, D) unit rows."""
    images, _ = load(cache, name)
    out = []
    for start in range(0, len(images), 200):
        batch = torch.from_numpy(np.array(images[start : start + 200])).permute(0, 3, 1, 2).float() / 255
        batch = F.interpolate(batch, (size_px, size_px), mode="bicubic", antialias=True).clamp(0, 1)
        out.append(F.normalize(model.visual(pixels(batch)), dim=1))
    return torch.cat(out)


def hits(logits: torch.Tensor, target: torch.Tensor, k: int = 1) -> float:
    return 100 * (logits.topk(k).indices == target[:, None]).any(1).float().mean().item()


def evaluate(
    model: open_clip.CLIP, tokens: Tokens, cache: Path, wnids: dict[str, str], size_px: int
) -> dict[str, float]:
    model.eval()
    figures = {}
    rows, labels = image_rows(model, cache, "tiny-val", size_px), load(cache, "tiny-val")[1]
    order = sorted(wnids)
    logits = rows @ text_head(model, tokens, [without_latin(wnids[w])[0] for w in order]).T
    target = torch.tensor([order.index(w) for w in labels])
    figures["tiny top1"], figures["tiny top5"] = hits(logits, target), hits(logits, target, 5)
    pet = torch.tensor([w in CATS + DOGS for w in labels])
    dog = torch.tensor([int(w in DOGS) for w in labels])[pet]
    figures["cat or dog"] = hits(rows[pet] @ text_head(model, tokens, ["cat", "dog"]).T, dog)
    for name in ("cifar-val", "clothing-val"):
        rows, labels = image_rows(model, cache, name, size_px), load(cache, name)[1]
        names = sorted(set(labels))
        logits = rows @ text_head(model, tokens, [LABELS.get(n, n) if name == "clothing-val" else n for n in names]).T
        figures[name] = hits(logits, torch.tensor([names.index(n) for n in labels]))
    figures |= retrieval(model, tokens, cache, size_px)
    return {name: round(value, 1) for name, value in figures.items()}


@torch.inference_mode()
def retrieval(model: open_clip.CLIP, tokens: Tokens, cache: Path, size_px: int) -> dict[str, float]:
    rows, captions = image_rows(model, cache, "flickr-val", size_px), load(cache, "flickr-val")[1]
    texts = torch.cat([encode_text(model, tokens(list(five))) for five in captions])
    target = torch.arange(len(rows)).repeat_interleave(captions.shape[1])
    return {f"flickr R@{k}": hits(texts @ rows.T, target, k) for k in (1, 10)}
