"""The torch side of an open_clip model: build it without initialising it, fill it by memory map, run it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from cmprompt.encoders.tokenizer import refuse_code, require_transformers
from cmprompt.encoders.weights import TEXT_CONFIG, Checkpoint, read_json
from cmprompt.errors import ModelError


class DoesNotFit(ModelError):
    """Weights of another architecture than the configuration's."""


def load_towers(checkpoint: Checkpoint, device: str, dtype: str) -> Any:
    """The open_clip model in evaluation mode on `device`. `dtype` is torch's name for it: float32, bfloat16, float16.

    Raises DoesNotFit where the weights do not fit the configuration exactly, ModelError where it cannot be built.
    """
    import torch

    weights = read_weights(checkpoint)
    try:
        with torch.device("meta"):
            model = build(checkpoint.model_cfg, checkpoint.folder)
        fill(model, weights, checkpoint)
        rebuild_masks(model)
        unfilled = has_meta(model)
    except NotImplementedError:  # an architecture that looks at numbers while it is built
        unfilled = True
    if unfilled:
        model = build(checkpoint.model_cfg, checkpoint.folder)
        fill(model, weights, checkpoint)
    return model.eval().requires_grad_(False).to(device=device, dtype=getattr(torch, dtype))


def build(model_cfg: Mapping[str, Any], folder: Path | None = None) -> Any:
    """open_clip's class for this configuration, as its factory chooses it, without pretrained parts.

    `folder` holds the configuration of a Hugging Face text tower, which is never fetched here.
    """
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    cfg = deepcopy(dict(model_cfg))
    custom_text = cfg.pop("custom_text", False) or bool(cfg["text_cfg"].get("hf_model_name"))
    if name := cfg["vision_cfg"].get("timm_model_name"):
        if not isinstance(name, str) or re.search(r"[:/]", name):
            raise ModelError(f"timm_model_name {name!r} is no network of timm's own, and no other is fetched")
        cfg["vision_cfg"]["timm_model_pretrained"] = False
    if cfg["text_cfg"].get("hf_model_name"):
        cfg["text_cfg"] |= {"hf_model_pretrained": False, "hf_model_name": text_model(folder)}
    kind = CLIP if not custom_text else CoCa if "multimodal_cfg" in cfg else CustomTextCLIP
    try:
        return kind(**cfg)
    except (TypeError, ValueError, AssertionError) as error:
        raise ModelError(f"open_clip cannot build this model: {error}") from error


def text_model(folder: Path | None) -> str:
    """Where the text tower's configuration is.

    Raises ModelError where it is not in the model's folder, or is of another kind than those that open_clip reads.
    """
    require_transformers("text tower")
    from open_clip.hf_configs import arch_dict

    if folder is None or not (folder / TEXT_CONFIG).is_file():
        raise ModelError(f"{folder} has no {TEXT_CONFIG}, which says how its text tower is built")
    path = folder / TEXT_CONFIG
    refuse_code(path)
    kind = read_json(path).get("model_type")
    if kind not in [*arch_dict]:
        raise ModelError(f"{path}: model_type {kind!r} is no text tower of open_clip; known: {', '.join(arch_dict)}")
    return str(path.parent)


def read_weights(checkpoint: Checkpoint) -> dict[str, Any]:
    """The tensors, mapped from the file, not copied."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Any] = load_file(checkpoint.weights)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{checkpoint.weights} is not a readable safetensors file: {error}") from error
    return tensors


def fill(model: Any, weights: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Assign every tensor of the file to the model; a missing, unexpected or misshapen one is DoesNotFit."""
    tensors = as_open_clip(model, dict(weights))
    try:
        model.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        lines = " ".join(str(error).split())
        raise DoesNotFit(f"{checkpoint.weights} does not fit its configuration: {lines[:400]}") from error


def fill_image_tower(model: Any, weights: Mapping[str, Any]) -> None:
    """Put arrays in place of the image tower's weights. Raises ModelError where they do not fit."""
    import torch

    tower = deepcopy(model.visual)  # what was loaded may lie in the mapped file
    try:
        tower.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    except RuntimeError as error:
        lines = " ".join(str(error).split())
        raise ModelError(f"the saved image tower does not fit this model: {lines[:400]}") from error
    model.visual = tower


def as_open_clip(model: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """The renamings that open_clip's own loader applies to older checkpoints."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    tensors = convert_state_dict(model, tensors)
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    tensors.pop("text.transformer.embeddings.position_ids", None)
    for name in ("logit_scale", "logit_bias"):
        own = getattr(model, name, None)
        if own is not None and name in tensors:
            tensors[name] = tensors[name].reshape(own.shape)
    return tensors


def rebuild_masks(model: Any) -> None:
    """Causal masks are buffers that no checkpoint carries."""
    import torch

    for module in model.modules():
        mask = module._buffers.get("attn_mask")
        if mask is not None and mask.is_meta:
            module.attn_mask = torch.full(mask.shape, float("-inf")).triu_(1)


def has_meta(model: Any) -> bool:
    """Is anything still without storage: a computed buffer, or a tensor kept as a plain attribute?"""
    kept = (value for module in model.modules() for value in vars(module).values())
    tensors = [*model.parameters(), *model.buffers(), *kept]
    return any(getattr(value, "is_meta", False) for value in tensors)


def is_trimmable(text_cfg: Mapping[str, Any]) -> bool:
    """May the context be cut after the longest text? Only where no token sees a later one and the end token is read."""
    causal = not text_cfg.get("no_causal_mask", False) and not text_cfg.get("hf_model_name")
    return causal and not text_cfg.get("embed_cls", False) and text_cfg.get("pool_type", "argmax") in ("argmax", "eos")


def encode_trimmed(model: Any, tokens: Any) -> Any:
    """open_clip's text tower on (M, L) tokens with L shorter than its context -> (M, D), not normalised."""
    return project_words(model, pool_words(model, read_words(model, tokens), tokens))


def read_words(model: Any, tokens: Any) -> Any:
    """The text tower's last layer on (M, L) tokens -> (M, L, width). Raises ModelError for a tower of another make."""
    tower = getattr(model, "text", model)
    if not hasattr(tower, "token_embedding") or getattr(tower, "cls_emb", None) is not None:
        raise ModelError(f"the text tower {type(tower).__name__} gives no vector for each word")
    length = tokens.shape[1]
    dtype = tower.transformer.get_cast_dtype()
    x = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)  # (M, L, width)
    mask = None if tower.attn_mask is None else tower.attn_mask[:length, :length]
    return tower.ln_final(tower.transformer(x, attn_mask=mask))


def pool_words(model: Any, words: Any, tokens: Any) -> Any:
    """(M, L, width) -> (M, width) as the tower pools."""
    from open_clip.transformer import text_global_pool

    tower = getattr(model, "text", model)
    pool = tower.text_pool_type if tower is model else tower.pool_type
    end = tower.text_eos_id if tower is model else tower.eos_id
    return text_global_pool(words, tokens, pool, eos_token_id=end)


def project_words(model: Any, rows: Any) -> Any:
    """(..., width) -> (..., D)."""
    from torch import nn

    projection = getattr(model, "text", model).text_projection
    if projection is None:
        return rows
    return projection(rows) if isinstance(projection, nn.Linear) else rows @ projection
