"""`attention`: the pooled text looks over the patches, the pooled image over the words (cross-attention, one layer).

a = softmax(sharpness * cos(q, k)) over the other side's tokens; the two pooled sums stand beside v and l,
with the products and cosines of each and what asked for it. A token of
zeros is padding and gets no attention.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cmprompt.errors import UsageError
from cmprompt.heads.network import Fusion, Joint, Ops, Params, spread, unit
from cmprompt.types import Array


def _fuse(ops: Ops, p: Params, x: Joint) -> Any:
    if x.v_tokens is None or x.l_tokens is None:
        raise UsageError("--head attention reads patch and word tokens; this encoder gives pooled vectors only")
    seen = _attend(ops, p, "patches", x.l, x.v_tokens)  # (N, d) what the text finds in the image
    read = _attend(ops, p, "words", x.v, x.l_tokens)  # (N, d) what the image finds in the text
    found = ops.concat([spread(seen * x.l).sum(-1)[:, None], spread(read * x.v).sum(-1)[:, None]])  # (N, 2)
    products = [spread(seen) * spread(x.l), spread(read) * spread(x.v)]
    return ops.concat([*map(spread, (x.v, x.l, seen, read)), *products, found])


def _attend(ops: Ops, p: Params, name: str, query: Any, tokens: Any) -> Any:
    """(N, d) query over (N, T, d) tokens. The drive is a scaled cosine, so that exp cannot overflow."""
    asked = unit(ops.mm(query, p[f"{name}.query"]))  # (N, d)
    drive = (asked[:, None, :] * tokens).sum(-1) * p[f"{name}.sharpness"]  # (N, T)
    weight = ops.exp(drive) * ((tokens * tokens).sum(-1) > 0.5)
    return (weight[:, :, None] * tokens).sum(1) / (weight.sum(-1)[:, None] + 1e-12)


def _parameters(d: int, rng: np.random.Generator) -> dict[str, Array]:
    sides = {f"{name}.query": np.eye(d, dtype=np.float32) for name in ("patches", "words")}
    return {**sides, **{f"{name}.sharpness": np.full(1, 10.0, np.float32) for name in ("patches", "words")}}


ATTENTION = Fusion(
    _fuse,
    width=lambda d: 6 * d + 2,
    parameters=_parameters,
    needs=frozenset({"image", "text", "image_tokens", "text_tokens"}),
)
