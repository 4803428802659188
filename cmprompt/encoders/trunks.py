"""What a timm network makes of a picture before its classifier: a map of places, or tokens."""

from __future__ import annotations

from typing import Any

from cmprompt.errors import UsageError


def pooled(model: Any, features: Any) -> Any:
    """(N, D) of a feature map (N, D, H, W) or (N, H, W, D), or of tokens (N, T, D) as the network itself pools them."""
    if features.ndim == 4:
        return channels_last(model, features).mean((1, 2))
    if features.ndim == 3:
        return model.forward_head(features, pre_logits=True)
    return features


def places(model: Any, features: Any) -> Any:
    """(N, P, D) of a feature map or of tokens, without those that stand for the whole picture."""
    if features.ndim == 4:
        return channels_last(model, features).flatten(1, 2)
    if features.ndim == 3 and features.shape[-1] == pooled(model, features).shape[-1]:
        return features[:, int(getattr(model, "num_prefix_tokens", 0)) :]
    raise UsageError("--head attention reads patches, and the features of this timm network have no places")


def channels_last(model: Any, features: Any) -> Any:
    """A feature map (N, D, H, W) or (N, H, W, D) as (N, H, W, D)."""
    last = features.shape[-1] == model.num_features and features.shape[1] != model.num_features
    return features if last else features.permute(0, 2, 3, 1)
