"""The two towers as an open_clip config, and the text tower run on trimmed context."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

VOCAB_SIZE, CONTEXT_LENGTH, DIM = 8192, 32, 256
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def config(backbone: str, size_px: int) -> dict[str, Any]:
    """What goes into open_clip_config.json."""
    vision = {"timm_model_name": backbone, "timm_model_pretrained": False, "timm_pool": "avg"}
    vision |= {"timm_proj": "linear", "timm_proj_bias": True, "image_size": size_px}
    text = {"context_length": CONTEXT_LENGTH, "vocab_size": VOCAB_SIZE, "width": 192, "heads": 3, "layers": 4}
    return {
        "model_cfg": {"embed_dim": DIM, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {
            "size": size_px,
            "mode": "RGB",
            "mean": MEAN,
            "std": STD,
            "interpolation": "bilinear",  # as pictures are enlarged in training
            "resize_mode": "shortest",
            "fill_color": 0,
        },
    }


def build(backbone: str, size_px: int = 64) -> open_clip.CLIP:
    cfg = config(backbone, size_px)["model_cfg"]
    model = open_clip.CLIP(embed_dim=cfg["embed_dim"], vision_cfg=cfg["vision_cfg"], text_cfg=cfg["text_cfg"])
    # In training the projection is normalised over the batch: else what all images share drowns what tells them apart.
    model.visual.head.add_module("norm", torch.nn.BatchNorm1d(DIM, affine=False))
    return model.to(memory_format=torch.channels_last)


def fold(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights with that normalisation worked into the projection, as open_clip's own model has them."""
    mean, var = (state[f"visual.head.norm.running_{name}"] for name in ("mean", "var"))
    deviation = (var + 1e-5).sqrt()
    weight, bias = state["visual.head.proj.weight"], state["visual.head.proj.bias"]
    rest = {name: tensor for name, tensor in state.items() if ".head." not in name}
    proj = {"weight": weight / deviation[:, None], "bias": (bias - mean) / deviation}
    return rest | {f"visual.head.proj.{name}": tensor for name, tensor in proj.items()}


def encode_text(model: open_clip.CLIP, tokens: torch.Tensor, chunk: int = 32) -> torch.Tensor:
    """(M, L) ids to (M, D) unit rows, in chunks of like length: little is spent on padding."""
    lengths = tokens.argmax(dim=-1) + 1
    order = lengths.argsort()
    rows = [_encode(model, tokens[rows, : int(lengths[rows[-1]])]) for rows in order.split(chunk)]
    return torch.cat(rows)[order.argsort()]


def _encode(model: open_clip.CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """Cut to the longest text, which is exact: under causal attention what follows EOT changes nothing."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    pooled = x[torch.arange(len(x)), tokens.argmax(dim=-1)]
    return F.normalize(pooled @ model.text_projection, dim=-1)


def pixels(images: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) in 0..1 to what the image tower takes."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def export(state: dict[str, torch.Tensor], backbone: str, size_px: int, folder: Path) -> None:
    """The open_clip local directory: config and fp16 safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().clone()
        for name, tensor in fold(state).items()
        if name != "attn_mask"
    }
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    (folder / "open_clip_config.json").write_text(json.dumps(config(backbone, size_px), indent=2) + "\n")


def native_bf16() -> bool:
    """Has this processor units for bf16 (AMX, AVX512-BF16)?"""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
