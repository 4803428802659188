"""Models of random weights for the benchmarks: what they cost does not depend on what they have learned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOMENTS = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}


def random_open_clip(folder: Path, name: str = "ViT-B-32") -> Path:
    """An open_clip architecture with seed 0 as a local-dir, made once."""
    import open_clip

    config: dict[str, Any] = open_clip.get_model_config(name)
    return folder if (folder / "open_clip_config.json").exists() else save_random(folder, config)


def save_random(folder: Path, model_cfg: Mapping[str, Any]) -> Path:
    """An open_clip CLIP of this configuration with seed 0 as a local-dir."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.CLIP(**model_cfg)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "attn_mask"}
    save_file(tensors, folder / "open_clip_model.safetensors")
    shape = {"size": model_cfg["vision_cfg"]["image_size"], "mode": "RGB", "fill_color": 0}
    preprocess = {**shape, **MOMENTS, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": preprocess}))
    return folder


def random_hugging_face(folder: Path) -> Path:
    """A CLIPModel of ViT-B-32's size with seed 0, its tokenizer and image processor, made once."""
    if (folder / "model.safetensors").exists():
        return folder
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    # the defaults of CLIPConfig are ViT-B-32's but for the activation, which is OpenAI's
    act = {"hidden_act": "gelu"}
    config = CLIPConfig(text_config={**act, "bos_token_id": 49406, "eos_token_id": 49407}, vision_config=act)
    _save_tokenizer(folder)
    CLIPImageProcessor().save_pretrained(folder)
    CLIPModel(config).save_pretrained(folder)
    return folder


def _save_tokenizer(folder: Path) -> None:
    """CLIP's own, from the merges that open_clip carries."""
    from transformers import CLIPTokenizer

    from cmprompt.encoders.tokenizer import MERGES, byte_letters, read_merges

    letters, merges = list(byte_letters().values()), read_merges(MERGES)
    words = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
