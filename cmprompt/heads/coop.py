"""`coop`: a prompt learned in place of "a photo of a", through the frozen text tower (CoOp, Zhou et al., IJCV 2022).

The answer is a linear head: the vectors of "[v1] ... [vM] label." for every label.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from cmprompt.encoders.devices import torch_threads
from cmprompt.errors import UsageError
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.training import Training, text_prior
from cmprompt.types import Array

WORDS = 16  # M, learned context tokens
DEVIATION = 0.02  # of their start, as in the paper
RATE, EPOCHS, BATCH = 2e-3, 50, 32  # the paper's SGD with a cosine rate
FILLER = "x"  # one token in CLIP's vocabulary; its embedding is replaced


@torch_threads()
def fit_coop(data: Training, *, words: int = WORDS, phrase: str | None = None, epochs: int = EPOCHS) -> LinearHead:
    """Train the context on `data`. It starts from N(0, 0.02), or from the tokens of `phrase` ("a photo of a").

    Raises UsageError where the encoder has no text tower of the CLIP family to learn through.
    """
    import torch
    from torch.nn import functional

    prior = text_prior(data, "coop")
    tower = _tower(data.encoder)
    tokens, context = _prompts(data, tower, words, phrase)
    x, target = torch.from_numpy(data.x), torch.from_numpy(data.targets)
    weights, dice = torch.from_numpy(data.row_weights), torch.Generator().manual_seed(data.seed)
    optimiser = torch.optim.SGD([context], lr=RATE, momentum=0.9, weight_decay=5e-4)
    steps = epochs * -(-len(data) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with _spliced(tower, context):
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(data), generator=dice), BATCH):
                logits = prior.scale * x[rows] @ _vectors(data.encoder, tokens).T
                losses = functional.cross_entropy(logits, target[rows], reduction="none")
                optimiser.zero_grad()
                torch.autograd.backward((losses * weights[rows]).mean())
                optimiser.step()
                schedule.step()
        with torch.no_grad():
            weight: Array = _vectors(data.encoder, tokens).numpy().astype(np.float32)
    data.record.update(words=len(context), epochs=epochs)
    return LinearHead(weight, data.labels, data.model_id, prior.scale, text_built=True)


def _tower(encoder: Any) -> Any:
    """The text tower. Raises UsageError where there is none whose tokens can be learned."""
    tower = getattr(getattr(encoder, "model", None), "text", getattr(encoder, "model", None))
    if not hasattr(tower, "token_embedding"):
        raise UsageError("--head coop learns through a CLIP text tower, which this encoder does not have")
    return tower


def _prompts(data: Training, tower: Any, words: int, phrase: str | None) -> tuple[Any, Any]:
    """(C, L) tokens with fillers in the learned places, and the (M, width) context to learn."""
    import torch

    from cmprompt.encoders.towers import is_trimmable

    encoder: Any = data.encoder
    longest = max(encoder.count_tokens([f"{label}." for label in data.labels]))
    if phrase is not None:
        words = encoder.count_tokens([phrase])[0] - 2  # less the start and the end
    words = max(1, min(words, encoder.context_length - longest))
    texts = [" ".join([FILLER] * words + [f"{label.rpartition('/')[2]}."]) for label in data.labels]
    tokens = torch.from_numpy(np.asarray(encoder.tokenizer.batch(texts), np.int64))
    if is_trimmable(encoder.checkpoint.model_cfg["text_cfg"]):
        tokens = tokens[:, : max(encoder.count_tokens(texts))]
    table = tower.token_embedding.weight
    if phrase is None:
        dice = torch.Generator().manual_seed(data.seed)
        start = DEVIATION * torch.randn(words, table.shape[1], generator=dice)
    else:
        named = np.asarray(encoder.tokenizer.batch([phrase]), np.int64)[0, 1 : words + 1]
        start = table[torch.from_numpy(named)].detach().float().cpu().clone()
    return tokens, torch.nn.Parameter(start)


@contextmanager
def _spliced(tower: Any, context: Any) -> Iterator[None]:
    """While this lasts, the tower reads `context` in place of the tokens after the start."""

    def splice(module: Any, given: Any, out: Any) -> Any:
        import torch

        middle = context.to(out).expand(len(out), *context.shape)
        return torch.cat([out[:, :1], middle, out[:, 1 + len(context) :]], dim=1)

    hook = tower.token_embedding.register_forward_hook(splice)
    try:
        yield
    finally:
        hook.remove()


def _vectors(encoder: Any, tokens: Any) -> Any:
    """(C, D) float32 unit rows, with gradients."""
    from torch.nn import functional

    from cmprompt.encoders.torch import encode_tokens

    rows = encode_tokens(encoder.model, tokens.to(encoder.device), encoder.context_length)
    return functional.normalize(rows.float(), dim=-1).cpu()
