"""`concat`: [v; l]."""

from __future__ import annotations

from typing import Any

from cmprompt.heads.network import Fusion, Joint, Ops, Params, spread


def _fuse(ops: Ops, p: Params, x: Joint) -> Any:
    return ops.concat([spread(x.v), spread(x.l)])


CONCAT = Fusion(_fuse, width=lambda d: 2 * d, parameters=lambda d, rng: {})
