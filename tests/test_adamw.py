"""The optimiser of the small networks: torch's steps, without torch's compiler."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import torch

from cmprompt.heads.adamw import AdamW

RATES = (1e-2, 3e-3, 1e-3, 5e-2, 1e-2)


def walk(tensors: list[torch.Tensor], optimiser: Any, set_rate: Any) -> None:
    """Steps on a loss of both tensors, every other one on the first alone."""
    for turn, rate in enumerate(RATES * 4):
        set_rate(rate)
        optimiser.zero_grad()
        loss = (tensors[0] ** 2 - tensors[0]).sum() + ((tensors[1] - 3).abs().sum() if turn % 2 else 0)
        torch.autograd.backward(loss)
        optimiser.step()


def start() -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=dice).requires_grad_() for shape in ((4, 3), (5,))]


def test_steps_are_those_of_torch() -> None:
    ours, theirs = start(), start()

    def groups(tensors: list[torch.Tensor]) -> list[dict[str, Any]]:
        return [{"params": tensors[:1]}, {"params": tensors[1:], "weight_decay": 0.0}]

    mine = AdamW(groups(ours), 1e-3, decay=0.1, eps=1e-6)
    walk(ours, mine, lambda rate: setattr(mine, "rate", rate))
    torchs = torch.optim.AdamW(groups(theirs), lr=1e-3, weight_decay=0.1, eps=1e-6, fused=True)
    walk(theirs, torchs, lambda rate: [group.update(lr=rate) for group in torchs.param_groups])
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[1], start()[1])


def test_a_fit_does_not_import_the_compiler() -> None:
    code = (
        "import sys, numpy as np; from cmprompt import fit; from cmprompt.types import Features\n"
        "dice = np.random.default_rng(0); rows = dice.normal(size=(60, 8)).astype(np.float32)\n"
        "rows /= np.linalg.norm(rows, axis=1, keepdims=True); yes = np.ones(60, bool)\n"
        "both = Features(rows, rows[::-1].copy(), yes, yes)\n"
        "fit('concat-mlp', both, np.array(['a', 'b'] * 30), model_id='vectors')\n"
        "print('torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
