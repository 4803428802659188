"""Heat maps from the gradients of an image tower, on the torch path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cmprompt.encoders.torch import normalised
from cmprompt.types import Array, Preprocess

LEGRAD = "LeGrad (Bousselham et al. 2024)"
GRAD_CAM = "Grad-CAM (Selvaraju et al. 2017) with LayerCAM (Jiang et al. 2021)"
LARGER = (4 / 3, 5 / 3, 2.0)  # whole numbers of places, where the tower's own size is a multiple of three of them
FAINT = 0.05  # of its peak: what Grad-CAM leaves of the finer map where it sees nothing itself


def heat_maps(visual: Any, pixels: Array, aims: Array, preprocess: Preprocess) -> tuple[str, Array] | None:
    """The method's name and (C, h, w) float32 heat, nothing below 0; None for a tower that cannot be reached into.

    `visual` is open_clip's image tower, `pixels` (3, H, W) uint8, `aims` (C, D) the directions to explain: a map says
    where the product of the unit image vector with its direction comes from.
    """
    import torch

    method, run = _method_of(visual)
    if run is None:
        return None
    weight = next(visual.parameters())
    with torch.enable_grad():
        x = normalised(torch.from_numpy(np.array(pixels)[None]).to(weight.device), preprocess)  # (1, 3, H, W)
        x = x.to(weight.dtype).requires_grad_()
        heat = run(x, torch.from_numpy(aims).to(weight.device))
    maps: Array = heat.detach().float().cpu().numpy()
    return method, maps


def _method_of(visual: Any) -> tuple[str, Callable[[Any, Any], Any] | None]:
    trunk: Any = getattr(visual, "trunk", None)
    if hasattr(visual, "transformer") and hasattr(visual, "conv1"):
        return LEGRAD, lambda x, aims: _legrad(_OpenClipViT(visual), x, aims)
    block: Any = trunk.blocks[0] if hasattr(trunk, "blocks") else None
    if hasattr(block, "attn"):
        return LEGRAD, (lambda x, aims: _legrad(_TimmViT(visual), x, aims)) if _is_known(block.attn) else None
    if trunk is not None and hasattr(trunk, "forward_head"):
        return GRAD_CAM, lambda x, aims: _scaled_cam(lambda both: _timm_maps(trunk, visual, both), x, aims)
    if hasattr(visual, "attnpool") and hasattr(visual, "layer4"):
        return GRAD_CAM, lambda x, aims: _scaled_cam(lambda both: _resnet_maps(visual, both), x, aims)
    return "", None


def _is_known(attention: Any) -> bool:
    """Whether it is timm's, with values of their own for each head."""
    if not hasattr(attention, "num_heads") or not hasattr(attention, "proj"):
        return False
    has_values = getattr(attention, "qkv", None) is not None or hasattr(attention, "v_proj")
    return has_values and getattr(attention, "num_kv_heads", attention.num_heads) == attention.num_heads


def _slopes(rows: Any, aims: Any, *inner: Any) -> Iterator[Any]:
    """For each of the (C, D) aims, the slopes along `inner` of its product with the unit vectors of `rows` (B, D)."""
    import torch

    scores = (torch.nn.functional.normalize(rows.float(), dim=-1) @ aims.T).sum(0)  # (C,); rows do not mix
    for score in scores:
        yield torch.autograd.grad(score, inner, retain_graph=True)


# Convolutions


@dataclass(frozen=True)
class _Maps:
    """What a convolutional tower makes of B pictures: `last` (B, K, h, w) features that end in `rows` (B, D), and the
    `finer` ones before them, (B, K', 2h, 2w) in most towers, or `last` again where there are none."""

    last: Any
    rows: Any
    finer: Any


def _scaled_cam(tower: Callable[[Any], _Maps], x: Any, aims: Any) -> Any:
    """(1, 3, H, W) pixels -> (C, h, w): the mean of the maps of the picture at its size and enlarged, up to twice.

    Enlarged, the same places are finer. Multi-scale class activation maps, as the code of Ahn and Kwak (2018, "Learning
    pixel-level semantic affinity with image-level supervision") sums them; here each counts in parts of its peak.
    """
    import torch
    from torch.nn import functional

    maps = [_in_parts(_mirrored_cam(tower, x, aims))]
    for scale in LARGER:
        enlarged = functional.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
        try:
            maps.append(_in_parts(_mirrored_cam(tower, enlarged, aims)))
        except (AssertionError, RuntimeError):
            break  # a tower that takes one size only
    size = maps[-1].shape[-2:]
    fitted = [functional.interpolate(each[None], size, mode="bilinear", align_corners=False)[0] for each in maps]
    return torch.stack(fitted).mean(0)


def _in_parts(maps: Any) -> Any:
    """(C, h, w), each in parts of its peak."""
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-12)


def _mirrored_cam(tower: Callable[[Any], _Maps], x: Any, aims: Any) -> Any:
    """(1, 3, H, W) pixels -> (C, h', w'): the finer map where the last one sees something too.

    Both are the mean of the picture's map and its mirror image's, which errs elsewhere.
    """
    import torch
    from torch.nn import functional

    maps = tower(torch.cat([x, x.flip(-1)]))
    heat = []
    for along_last, along_finer in _slopes(maps.rows, aims, maps.last, maps.finer):
        coarse = _straightened(_grad_cam(maps.last, along_last))
        fine = _straightened(_layer_cam(maps.finer, along_finer))
        size = fine.shape[-2:]
        coarse = functional.interpolate(coarse[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        heat.append(fine * (coarse / coarse.amax().clamp(min=1e-12) + FAINT))
    return torch.stack(heat)


def _grad_cam(features: Any, slope: Any) -> Any:
    """(B, K, h, w) -> (B, h, w): channels by their mean slope (equations 1, 2)."""
    import torch

    return torch.relu((slope.mean((2, 3), keepdim=True) * features).sum(1))


def _layer_cam(features: Any, slope: Any) -> Any:
    """(B, K, h, w) -> (B, h, w): every place of a channel by its own slope (equations 6 to 8)."""
    import torch

    return torch.relu((torch.relu(slope) * features).sum(1))


def _straightened(pair: Any) -> Any:
    """(2, h, w) of a picture and its mirror image -> their mean (h, w)."""
    return (pair[0] + pair[1].flip(-1)) / 2


def _timm_maps(trunk: Any, visual: Any, x: Any) -> _Maps:
    finer: list[Any] = []

    def catch(module: Any, inputs: Any, output: Any) -> None:
        finer.append(output)

    stages = [stage["module"] for stage in getattr(trunk, "feature_info", None) or ()]
    with _hooked([trunk.get_submodule(name) for name in stages[-2:-1]], catch):
        last = trunk.forward_features(x)
    maps = [found for found in finer if found.ndim == 4 and found.shape[-1] >= last.shape[-1]]
    return _Maps(last, visual.head(trunk.forward_head(last)), maps[0] if maps else last)


def _resnet_maps(visual: Any, x: Any) -> _Maps:
    finer = visual.layer3(visual.layer2(visual.layer1(visual.stem(x))))
    last = visual.layer4(finer)
    return _Maps(last, visual.attnpool(last), finer)


# Transformers


@dataclass
class _Layer:
    """One attention layer as it ran, for LeGrad."""

    heads: int
    values: Any  # (1, N, width), the heads side by side
    given: Any  # (1, N, width), what the heads gave; after the projection where there is one
    projection: Any = None  # (width, width)
    tokens: Any = None  # (1, N, width) at the end of the block


class _ViT(Protocol):
    prefix: int  # tokens before the patches

    def run(self, x: Any) -> Sequence[_Layer]:
        """Every layer, in order, of (1, 3, H, W) pixels."""
        ...

    def finish(self, tokens: Any) -> Any:
        """(1, N, width) tokens of any layer -> (1, D) rows, as the model pools its last ones."""
        ...


def _legrad(vit: _ViT, x: Any, aims: Any) -> Any:
    """(C, h, w): the slope of each layer's own score along its attention, positive parts, over heads and queries.

    Equations 5 to 9 of the paper, on the later half of the layers, which carry the meaning.
    """
    import torch

    layers = vit.run(x)
    later = layers[len(layers) // 2 :]
    heat = torch.stack([_layer_heat(layer, vit.finish(layer.tokens), aims) for layer in later]).mean(0)  # (C, N)
    patches = heat[:, vit.prefix :]
    side = int(patches.shape[1] ** 0.5)
    return patches[:, : side * side].reshape(len(aims), side, side)


def _layer_heat(layer: _Layer, rows: Any, aims: Any) -> Any:
    """(C, N): how much more attention to each token would raise the scores."""
    import torch

    values = layer.values[0].float().unflatten(-1, (layer.heads, -1))  # (N, heads, d)
    heat = []
    for (slope,) in _slopes(rows, aims, layer.given):
        before = slope[0] if layer.projection is None else slope[0] @ layer.projection
        mixed = before.float().unflatten(-1, (layer.heads, -1))  # (N, heads, d)
        attention = torch.einsum("qhd,khd->hqk", mixed, values)  # the slope along each attention weight
        heat.append(torch.relu(attention).mean((0, 1)))
    return torch.stack(heat)


class _OpenClipViT:
    prefix = 1

    def __init__(self, visual: Any) -> None:
        self._visual = visual
        self._layers: list[_Layer] = []

    def run(self, x: Any) -> Sequence[_Layer]:
        blocks = self._visual.transformer.resblocks
        with _hooked([block.attn for block in blocks], self._attended), _hooked(blocks, self._end):
            self._visual.transformer(self._visual._embeds(x))
        return self._layers

    def finish(self, tokens: Any) -> Any:
        pooled, _ = self._visual._pool(tokens)
        return pooled if self._visual.proj is None else pooled @ self._visual.proj

    def _attended(self, module: Any, inputs: Any, output: Any) -> None:
        from torch.nn.functional import linear

        start = 2 * module.embed_dim
        values = linear(inputs[2], module.in_proj_weight[start:], module.in_proj_bias[start:])
        self._layers.append(_Layer(module.num_heads, values, output[0], module.out_proj.weight))

    def _end(self, module: Any, inputs: Any, output: Any) -> None:
        self._layers[-1].tokens = output


class _TimmViT:
    """A timm transformer behind open_clip's TimmModel: SigLIP, PE, EVA."""

    def __init__(self, visual: Any) -> None:
        self._visual = visual
        self.prefix = int(getattr(visual.trunk, "num_prefix_tokens", 0))
        self._given: Any = None
        self._layers: list[_Layer] = []

    def run(self, x: Any) -> Sequence[_Layer]:
        blocks = self._visual.trunk.blocks
        with (
            _hooked([getattr(block.attn, "norm", block.attn.proj) for block in blocks], self._mixed),
            _hooked([block.attn for block in blocks], self._attended),
            _hooked(blocks, self._end),
        ):
            self._visual.trunk.forward_features(x)
        return self._layers

    def finish(self, tokens: Any) -> Any:
        trunk = self._visual.trunk
        return self._visual.head(trunk.forward_head(trunk.norm(tokens)))

    def _mixed(self, module: Any, inputs: Any, output: Any) -> None:
        self._given = inputs[0]

    def _attended(self, module: Any, inputs: Any, output: Any) -> None:
        self._layers.append(_Layer(module.num_heads, _values(module, inputs[0]), self._given))

    def _end(self, module: Any, inputs: Any, output: Any) -> None:
        self._layers[-1].tokens = output


def _values(attention: Any, tokens: Any) -> Any:
    """(1, N, width) values of timm's attention: EVA's may have a projection of their own, or a bias beside it."""
    from torch.nn.functional import linear

    if attention.qkv is None:
        return attention.v_proj(tokens)
    weight, bias = attention.qkv.weight, attention.qkv.bias
    width = len(weight) // 3
    if bias is None:
        return linear(tokens, weight[-width:], getattr(attention, "v_bias", None))
    return linear(tokens, weight[-width:], bias[-width:])


@contextmanager
def _hooked(modules: Sequence[Any], catch: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """Within, `catch` is told what each module takes in and gives out."""
    handles = [module.register_forward_hook(catch) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
