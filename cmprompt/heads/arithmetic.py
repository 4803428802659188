"""The fusions that are one sign: `add` v + l, `hadamard` v * l, `dot` the scalar v . l beside its projections."""

from __future__ import annotations

from typing import Any

from cmprompt.heads.network import Fusion, Joint, Ops, Params, spread


def _add(ops: Ops, p: Params, x: Joint) -> Any:
    return spread(x.v + x.l)


def _hadamard(ops: Ops, p: Params, x: Joint) -> Any:
    return spread(x.v) * spread(x.l)


def _dot(ops: Ops, p: Params, x: Joint) -> Any:
    return ops.concat([spread(x.v * x.l).sum(-1)[..., None], spread(x.v), spread(x.l)])


ADD = Fusion(_add, width=lambda d: d, parameters=lambda d, rng: {})
HADAMARD = Fusion(_hadamard, width=lambda d: d, parameters=lambda d, rng: {})
DOT = Fusion(_dot, width=lambda d: 2 * d + 1, parameters=lambda d, rng: {})
ADD_MLP, HADAMARD_MLP, DOT_MLP = ADD.with_mlp(), HADAMARD.with_mlp(), DOT.with_mlp()
