"""`concat`: [v; l]. `concat-raw`: the features as they are, without projections, as the article's network has them."""

from __future__ import annotations

from typing import Any

from cmprompt.heads.network import Fusion, Joint, Ops, Params, spread


def _fuse(ops: Ops, p: Params, x: Joint) -> Any:
    return ops.concat([spread(x.v), spread(x.l)])


def _fuse_raw(ops: Ops, p: Params, x: Joint) -> Any:
    return ops.concat([x.v, x.l])


CONCAT = Fusion(_fuse, width=lambda d: 2 * d, parameters=lambda d, rng: {}, side_by_side=True)
RAW = Fusion(_fuse_raw, width=lambda d: 2 * d, parameters=lambda d, rng: {}, raw=True)
CONCAT_MLP, RAW_MLP = CONCAT.with_mlp(), RAW.with_mlp()
