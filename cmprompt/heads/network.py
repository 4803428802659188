"""Small networks on one or two modalities: projections, a fusion, perhaps a hidden layer, one plane.

A network is a plain dictionary of arrays and one function of them that runs on numpy and on torch alike: torch trains
it (`train.py`), numpy answers with it, and the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from cmprompt.product import Grid, on_grid, product
from cmprompt.registry import FUSIONS, resolve
from cmprompt.types import Array, Features

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Ops:
    """The few functions that numpy and torch spell or round differently. `mm(x, w)` is x . w^T over the last axis."""

    mm: Callable[[Any, Any], Any]
    concat: Callable[[list[Any]], Any]  # along the last axis
    exp: Callable[[Any], Any]
    relu: Callable[[Any], Any]
    where: Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Joint:
    """What a fusion fuses: `v`, `l` (N, d) unit rows, or learned stand-ins where `has_v`, `has_l` (N, 1) say missing.

    `v_tokens` (N, P, d), `l_tokens` (N, L, d): projected patches and words, zero where there is none.
    """

    v: Any
    l: Any  # noqa: E741 - the formulas' own letter
    has_v: Any
    has_l: Any
    v_tokens: Any = None
    l_tokens: Any = None


@dataclass(frozen=True)
class Fusion:
    """`fuse(ops, params, joint)` gives (N, width(d)); `parameters(d, rng)` is what it learns beside projections.

    `raw`: it reads the features as they are, without projections; d is then that of the features. `hidden`: so many
    numbers between the fusion and the last plane, an MLP. `side_by_side`: half of the numbers are the image's, the
    other half the text's.
    """

    fuse: Callable[[Ops, Params, Joint], Any]
    width: Callable[[int], int]
    parameters: Callable[[int, np.random.Generator], dict[str, Array]]
    needs: frozenset[str] = frozenset({"image", "text"})
    raw: bool = False
    hidden: int = 0
    side_by_side: bool = False

    def with_mlp(self, hidden: int = 512) -> Fusion:
        """The same with an MLP on top."""
        return replace(self, hidden=hidden)


def forward(ops: Ops, fusion: Fusion, p: Params, x: Features) -> Any:
    """(N, outputs) of the arrays or tensors in `x`."""
    rows = fused(ops, fusion, p, x)
    if "hidden.weight" in p:
        rows = ops.relu(ops.mm(rows, p["hidden.weight"]) + p["hidden.bias"])
    return ops.mm(rows, p["out.weight"]) + p["out.bias"]


def fused(ops: Ops, fusion: Fusion, p: Params, x: Features) -> Any:
    """(N, width) of the arrays or tensors in `x`: what the fusion makes of them."""
    v, has_v = _side(ops, p, "image", x.image, x.has_image)
    l, has_l = _side(ops, p, "text", x.text, x.has_text)  # noqa: E741
    v_tokens = _tokens(ops, p, "image", x.image_tokens, x.has_image)
    l_tokens = _tokens(ops, p, "text", x.text_tokens, x.has_text)
    return fusion.fuse(ops, p, Joint(v, l, has_v, has_l, v_tokens, l_tokens))


def unit(rows: Any) -> Any:
    """Rows of length 1 along the last axis; a zero row stays zero."""
    return rows / ((rows * rows).sum(-1)[..., None] + 1e-12) ** 0.5


def spread(rows: Any) -> Any:
    """Unit rows with numbers of about 1, which is what planes learn from at an ordinary rate."""
    return rows * rows.shape[-1] ** 0.5


def _side(ops: Ops, p: Params, name: str, rows: Any, has: Any) -> tuple[Any, Any]:
    """One modality's (N, d) rows with the learned stand-in where it is missing, and (N, 1) where it is not.

    Unit rows of its projection, or where it has none the rows themselves.
    """
    if f"{name}.missing" not in p:
        return None, None
    stand_in, has = p[f"{name}.missing"], has[:, None]
    if f"{name}.weight" not in p:
        return ops.where(has, rows, stand_in), has
    return ops.where(has, unit(ops.mm(rows, p[f"{name}.weight"])), unit(stand_in)), has


def _tokens(ops: Ops, p: Params, name: str, tokens: Any, has: Any) -> Any:
    """(N, P, d) unit rows, zeros where their modality is missing."""
    if tokens is None or f"{name}.tokens" not in p:
        return None
    return unit(ops.mm(tokens, p[f"{name}.tokens"])) * has[:, None, None]


def _mm(x: Any, w: Any) -> Any:
    flat = product(x.reshape(-1, x.shape[-1]), w)
    return flat.reshape(*x.shape[:-1], flat.shape[-1])


NUMPY = Ops(
    mm=_mm,
    concat=lambda parts: np.concatenate(parts, axis=-1),
    exp=np.exp,
    relu=lambda x: np.maximum(x, 0),
    where=np.where,
)


@dataclass(frozen=True)
class NetworkHead:
    """A trained network. `kind` names its fusion; `params` are float32 arrays."""

    kind: str
    params: dict[str, Array]
    labels: tuple[str, ...]
    model_id: str
    needs: frozenset[str]
    temperature: float = 1.0
    rows_independent: ClassVar[bool] = True  # a row's logits are the same bits in any batch

    def logits(self, features: Features) -> Array:
        """(N, C) float32; (N, 1) for regression. A modality that is not there at all counts as missing in each row."""
        rows = forward(NUMPY, resolve(FUSIONS, "fusion", self.kind), self._grids, self._complete(features))
        logits: Array = (rows / self.temperature).astype(np.float32)
        return logits

    def _complete(self, x: Features) -> Features:
        """The same with zero rows for what is not there; masked."""

        def rows(name: str, array: Array | None) -> Array | None:
            if array is not None or f"{name}.missing" not in self.params:
                return array
            size = self.params.get(f"{name}.weight", self.params[f"{name}.missing"]).shape[-1]
            return np.zeros((len(x), size), np.float32)

        has_image = x.has_image if x.image is not None else np.zeros(len(x), bool)
        has_text = x.has_text if x.text is not None else np.zeros(len(x), bool)
        image, text = rows("image", x.image), rows("text", x.text)
        return Features(image, text, has_image, has_text, x.image_tokens, x.text_tokens)

    @cached_property
    def _grids(self) -> dict[str, Array | Grid]:
        """The parameters, those that only ever stand on the right of a product put on its grid."""
        planes = {"image.weight", "text.weight", "image.tokens", "text.tokens", "hidden.weight", "out.weight"}
        return {name: on_grid(array) if name in planes else array for name, array in self.params.items()}
