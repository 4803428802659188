"""Line 10: 1,000 labels in 80 templates through a text tower, against open_clip's `build_zero_shot_classifier`.

    python benchmarks/texts.py [--peer-labels 20]

ViT-B-32 of random weights, ImageNet's names and OpenAI's 80 templates, as open_clip has them; models loaded, nothing
stored. The peer's time is the same for each ten labels, so it is timed on fewer and counted per label; both sides'
vectors of those are compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import HERE, Line, about, median, parser, run, save
from models import random_open_clip

OURS, THEIRS = "cmprompt", "open_clip's build_zero_shot_classifier"


def ours(model: str, labels: int, templates: int) -> tuple[float, Any]:
    """Seconds, and the (C, D) head."""
    from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES

    from cmprompt import load_encoder, zero_shot

    encoder = load_encoder(f"local-dir:{model}")
    encoder.encode_texts(["warm"])
    chosen = OPENAI_IMAGENET_TEMPLATES[:templates]
    started = time.perf_counter()
    head: Any = zero_shot(encoder, {name: [make(name) for make in chosen] for name in IMAGENET_CLASSNAMES[:labels]})
    return time.perf_counter() - started, head.weight


def theirs(model: str, labels: int, templates: int) -> tuple[float, Any]:
    """Seconds, and the (C, D) head."""
    import open_clip

    loaded, _, _ = open_clip.create_model_and_transforms(f"local-dir:{model}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{model}")
    names, chosen = open_clip.IMAGENET_CLASSNAMES[:labels], open_clip.OPENAI_IMAGENET_TEMPLATES[:templates]
    loaded.eval().encode_text(tokenizer(["warm"]))
    started = time.perf_counter()
    weight = open_clip.build_zero_shot_classifier(loaded, tokenizer, names, chosen)
    return time.perf_counter() - started, weight.T.numpy()


def one(asked: argparse.Namespace) -> None:
    """What a process of its own does: torch's threads are set once for each, and the sides want different ones."""
    seconds, weight = (ours if asked.side == OURS else theirs)(str(asked.model), asked.labels, asked.templates)
    np.save(asked.keep, weight)
    print(json.dumps(seconds))


def measured(side: str, model: Path, work: Path, labels: int, templates: int) -> tuple[float, Any]:
    """Seconds for one label, and the (C, D) head, of a side in a fresh process."""
    keep = work / "texts.npy"
    flags = ["--side", side, "--model", model, "--labels", labels, "--templates", templates, "--keep", keep]
    seconds = json.loads(run([sys.executable, HERE / "texts.py", *flags], work).output.splitlines()[-1])
    print(f"  {side}: {labels} labels in {seconds:.1f} s", file=sys.stderr)
    return seconds / labels, np.load(keep)


def main() -> None:
    """Run both sides in turn, and save the line."""
    options = parser(__doc__, rounds=1)
    options.add_argument("--labels", type=int, default=1000)
    options.add_argument("--peer-labels", type=int, default=20)
    options.add_argument("--templates", type=int, default=80)
    for hidden in ("--side", "--model", "--keep"):
        options.add_argument(hidden, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.side:
        one(asked)
        return
    model = random_open_clip(asked.work / "ViT-B-32")
    facts = about(model="ViT-B-32, random weights", texts=f"{asked.labels} labels x {asked.templates} templates")
    times: dict[str, list[float]] = {OURS: [], THEIRS: []}
    heads: dict[str, Any] = {}
    for turn in range(2 * asked.rounds + 1):  # the peer before ours and after
        side, labels = (OURS, asked.labels) if turn % 2 else (THEIRS, asked.peer_labels)
        seconds, heads[side] = measured(side, model, asked.work, labels, asked.templates)
        times[side].append(1000 * seconds)
    both = min(map(len, heads.values()))
    agreement = float((heads[OURS][:both] * heads[THEIRS][:both]).sum(1).min())
    us, them = median(times[OURS]), median(times[THEIRS])
    measure = f"{asked.labels:,} labels x {asked.templates} templates, for each label"
    line = Line(measure, THEIRS, them / us, 5, 10, us, them, "ms", times=times)
    notes = f"\nThe peer had {asked.peer_labels} labels. Least cosine of both sides' labels: {agreement:.6f}.\n"
    print(save("texts", "Many texts", [line], facts, asked.out, notes))


if __name__ == "__main__":
    main()
