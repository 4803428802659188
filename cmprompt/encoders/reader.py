"""The torch module of the learned word embedding: a table of words, and what makes one vector of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from cmprompt.encoders.vocabulary import FIRST_WORD, LENGTH, PADDING, UNKNOWN, WIDTH

HEADS = 8


class Reader(nn.Module):
    """(M, L) int64 words -> (M, WIDTH) one vector a text, and (M, L, WIDTH) one a word, zero where there is none.

    `pooled` is the words' mean; `gru` the state after the last word (Cho et al. 2014); `transformer` the mean of the
    words after one pre-norm layer (Vaswani et al. 2017; Xiong et al. 2020), with learned places.
    """

    def __init__(self, kind: str, words: int, seed: int = 0) -> None:
        super().__init__()
        self.kind = kind
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.table = nn.Embedding(FIRST_WORD + words, WIDTH, padding_idx=PADDING)
            if kind == "gru":
                self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
            elif kind == "transformer":
                self.places = nn.Parameter(torch.randn(LENGTH, WIDTH))  # as loud as the words
                self.layer = _Layer()

    def forward(self, ids: Any) -> tuple[Any, Any]:
        there = (ids != PADDING)[..., None]  # (M, L, 1)
        x = self.table(ids)
        if self.kind == "gru":
            x = self.gru(x)[0] * there
            last = there.sum(1, keepdim=True).expand(-1, 1, WIDTH) - 1
            return x.gather(1, last)[:, 0], x
        if self.kind == "transformer":
            x = self.layer(x + self.places[: ids.shape[1]], there)
        x = x * there
        return x.sum(1) / there.sum(1), x


class _Layer(nn.Module):
    """Self-attention among the words of a text, then two planes at each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.asked, self.given = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Any, there: Any) -> Any:
        query, key, value = self.asked(self.first(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, there[:, None, None, :, 0])
        x = x + self.given(seen.transpose(1, 2).flatten(2))
        return self.last(x + self.narrow(functional.gelu(self.wide(self.second(x)))))


def with_unknowns(ids: Any, part: float, dice: torch.Generator) -> Any:
    """`ids` with this part of the words unknown, so that the table learns what to make of words it never saw."""
    lost = (torch.rand(ids.shape, generator=dice) < part) & (ids != PADDING)
    return torch.where(lost, torch.full_like(ids, UNKNOWN), ids)
