"""What the teacher of pictures would call each training image among the concepts: a linear probe on its features."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from training.corpus import SHARES, Corpus
from training.targets import concept_loss

STEPS, BATCH, LR, DECAY, DROPOUT = 3000, 512, 2e-3, 0.1, 0.3
TEMPERATURE = 2.0


def ask(corpus: Corpus, folder: Path, seed: int) -> None:
    """`told-NAME.npy` of every set: (N, V) float16 logits; of images that may not be used they mean nothing."""
    if all((folder / f"told-{name}.npy").exists() for name in corpus.parts):
        return
    probe = fit(corpus, seed)
    for name, part in corpus.parts.items():
        with torch.inference_mode():
            logits = [
                probe(corpus.centred(part, slice(start, start + 4096))) for start in range(0, len(part.seen), 4096)
            ]
        np.save(folder / f"told-{name}.npy", torch.cat(logits).half().numpy())


def fit(corpus: Corpus, seed: int) -> nn.Module:
    """Drawn by the shares of the recipe, so that small sets count."""
    torch.manual_seed(seed)
    parts = [(part, SHARES[name]) for name, part in corpus.parts.items()]
    features = torch.cat([corpus.centred(part, part.rows) for part, _ in parts])  # (N, 1280)
    labels = torch.cat([torch.from_numpy(part.label[part.rows]) for part, _ in parts])
    share = torch.cat([torch.full((len(part.rows),), weight / len(part.rows)) for part, weight in parts])
    probe = nn.Linear(features.shape[1], corpus.weights.shape[1])
    nn.init.zeros_(probe.weight)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=LR, weight_decay=DECAY)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = LR * (1 - step / STEPS)
        rows = torch.multinomial(share, BATCH, replacement=True)
        logits = probe(F.dropout(features[rows], DROPOUT))
        loss = concept_loss(logits, corpus.weights[labels[rows]], corpus.masks[labels[rows]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return probe


def distillation(logits: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """KL from student to probe, both (N, V), softened by a temperature T and times T squared (Hinton et al. 2015)."""
    student = F.log_softmax(logits / TEMPERATURE, dim=1)
    return F.kl_div(student, F.softmax(told / TEMPERATURE, dim=1), reduction="batchmean") * TEMPERATURE**2
