"""One modality alone, as a network: `mlp`, the controls of every fusion, one plane on an image tower that learns."""

from __future__ import annotations

from typing import Any

from cmprompt.heads.network import Fusion, Joint, Ops, Params, spread


def _fuse(ops: Ops, p: Params, x: Joint) -> Any:
    return spread(x.v if x.l is None else x.l)


def _fuse_raw(ops: Ops, p: Params, x: Joint) -> Any:
    return x.v


IMAGE = Fusion(_fuse, width=lambda d: d, parameters=lambda d, rng: {}, needs=frozenset({"image"}))
TEXT = Fusion(_fuse, width=lambda d: d, parameters=lambda d, rng: {}, needs=frozenset({"text"}))
PLANE = Fusion(_fuse_raw, width=lambda d: d, parameters=lambda d, rng: {}, needs=frozenset({"image"}), raw=True)
