"""Parts of the recipe of the bundled model that a mistake would spoil without a word."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
if not (ROOT / "training").is_dir():
    pytest.skip("the recipe is not here", allow_module_level=True)
sys.path.append(str(ROOT))  # last, so that the installed cmprompt stays the one that is tested
augment: Any = importlib.import_module("training.augment")
concepts: Any = importlib.import_module("training.concepts")
pictures: Any = importlib.import_module("training.pictures")
probe: Any = importlib.import_module("training.probe")
targets: Any = importlib.import_module("training.targets")


@pytest.fixture
def table() -> Any:
    """A beagle is a dog, a dog a pet and an animal; a cat is a pet and an animal too."""
    above = {"beagle": {"dog", "pet", "animal"}, "dog": {"pet", "animal"}, "cat": {"pet", "animal"}, "pet": {"animal"}}
    names = ("beagle", "dog", "cat", "pet", "animal", "car")
    return targets.Targets({name: concepts.Concept([name], above.get(name, set())) for name in names})


def test_the_nearest_parent_weighs_most(table: Any) -> None:
    weights, mask = table.of(["beagle"])
    named = dict(zip(table.keys, weights.tolist(), strict=True))
    assert named["beagle"] == 1 and named["dog"] > named["pet"] > named["animal"] > 0 == named["cat"] == named["car"]
    assert weights.sum().item() == pytest.approx(1 + targets.PARENTS_SHARE)
    assert {key for key, free in zip(table.keys, mask.tolist(), strict=True) if not free} == {"cat", "car"}


def test_what_stands_below_is_no_negative(table: Any) -> None:
    _, mask = table.of(["dog"])
    assert mask[table.row["beagle"]] and not mask[table.row["cat"]]


def test_positives_do_not_compete(table: Any) -> None:
    weights, mask = table.of(["beagle"])
    logits = torch.full((1, 6), -20.0)
    logits[0, [table.row[name] for name in ("beagle", "dog", "pet", "animal")]] = 20.0
    assert targets.concept_loss(logits, weights[None], mask[None]).item() < 1e-6
    logits[0, table.row["cat"]] = 20.0
    assert targets.concept_loss(logits, weights[None], mask[None]).item() > 1


def test_distillation_is_the_softened_divergence() -> None:
    student, told = torch.tensor([[0.0, 2.0, 1.0]], requires_grad=True), torch.tensor([[1.0, 1.0, 3.0]])
    p, q = np.exp(told[0].numpy() / 2), np.exp(student[0].detach().numpy() / 2)
    p, q = p / p.sum(), q / q.sum()
    loss = probe.distillation(student, told)
    assert loss.item() == pytest.approx(4 * float((p * np.log(p / q)).sum()), rel=1e-5)
    assert probe.distillation(told, told).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("side", [32, 64, 128])
@pytest.mark.parametrize("size_px", [48, 96])
def test_augmented_pictures_are_pictures(side: int, size_px: int) -> None:
    images = torch.randint(0, 256, (16, side, side, 3), dtype=torch.uint8)
    torch.manual_seed(0)
    out = augment.augment(images, size_px, 0.4)
    assert out.shape == (16, 3, size_px, size_px) and out.min() >= 0 and out.max() <= 1
    torch.manual_seed(0)
    assert torch.equal(out, augment.augment(images, size_px, 0.4))


def test_softening_takes_detail_and_sharpening_adds_it() -> None:
    torch.manual_seed(0)
    images = 0.4 + 0.2 * torch.rand(8, 3, 96, 96)

    def detail(rows: torch.Tensor) -> float:
        return (rows[..., 1:] - rows[..., :-1]).abs().mean().item()

    assert detail(augment.soften(images.clone(), share=1.0)) < 0.6 * detail(images)
    assert detail(augment.sharpen(images, share=1.0)) > 1.2 * detail(images)
    assert torch.equal(augment.soften(images.clone(), share=0.0), images)


def test_the_rate_rises_once_and_falls() -> None:
    rates = [pictures.rate(step / 200) for step in range(201)]
    peak = int(np.argmax(rates))
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(rates) == pytest.approx(1, abs=0.01) and rates[-1] == pytest.approx(0.01)
