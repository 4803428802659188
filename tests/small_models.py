"""Small open_clip models with seeded random weights, for the tests that need one on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CLIP = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
SMALL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 1024, "width": 32, "heads": 2, "layers": 2},
}


def save_model(
    folder: Path, model_cfg: dict[str, Any], preprocess_cfg: dict[str, Any] | None = None, dtype: str = "float32"
) -> Path:
    """Build the model with seed 0 and save it as a local-dir."""
    import torch
    from safetensors.torch import save_file

    from cmprompt.encoders.towers import build

    torch.manual_seed(0)
    model = build(model_cfg, folder)
    for parameter in model.parameters():
        if not parameter.any():  # some layers start at zero, which would hide what they do
            torch.nn.init.normal_(parameter, std=0.02)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.to(getattr(torch, dtype)).contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg or CLIP}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder
