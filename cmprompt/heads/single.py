"""One modality alone, as a network: `mlp`, and the controls of every fusion."""

from __future__ import annotations

from typing import Any

from cmprompt.heads.network import Fusion, Joint, Ops, Params, spread


def _fuse(ops: Ops, p: Params, x: Joint) -> Any:
    return spread(x.v if x.l is None else x.l)


IMAGE = Fusion(_fuse, width=lambda d: d, parameters=lambda d, rng: {}, needs=frozenset({"image"}))
TEXT = Fusion(_fuse, width=lambda d: d, parameters=lambda d, rng: {}, needs=frozenset({"text"}))
