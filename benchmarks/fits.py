"""The reference optimum, the speed of fitting, and the commands end to end: the tables 1, 7 and 8 of `heads.py`."""

from __future__ import annotations

import csv
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import Line, cmprompt, environment, in_turn, median
from labelled_sets import Bench, clothing, tiny_imagenet

from cmprompt.heads.auto import kinds_for
from cmprompt.heads.fit import fit, fit_training, training_data
from cmprompt.heads.linear import LinearHead
from cmprompt.types import Array, Features

ROUNDS = 3  # fits of each side
STRENGTH = 10.0  # scikit-learn's C, the same for both
Rows = list[list[object]]


def optimum(bench: Bench, rows: int = 2000) -> tuple[Rows, list[Line]]:
    """`linear` without text beside scikit-learn's LogisticRegression on Tiny-ImageNet vectors, trained to the end."""
    from sklearn.linear_model import LogisticRegression

    items = tiny_imagenet(bench.data, "train-0", rows)
    x, names = bench.vectors(items).image, np.array([str(item.target) for item in items])
    assert x is not None
    classes, target = np.unique(names, return_inverse=True)
    theirs = LogisticRegression(C=STRENGTH, max_iter=5000, tol=1e-8).fit(x.astype(np.float64), target)
    head = fit("linear", Features.of_images(x), names, model_id="bench", strength=STRENGTH)
    assert isinstance(head, LinearHead)
    ours = head.logits(Features.of_images(x)).astype(np.float64)
    reference = _loss(theirs.decision_function(x), target, theirs.coef_)
    found = _loss(ours, target, head.weight * head.scale)
    same = np.mean(np.array(head.labels)[ours.argmax(1)] == classes[theirs.predict(x)])
    gap = abs(found / reference - 1)
    return [["linear", f"{found:.6g}"], ["scikit-learn", f"{reference:.6g}"]], [
        Line("loss, relative difference", "scikit-learn", gap, 1e-3, None, suffix="", below=True),
        Line("same answers", "scikit-learn", 100 * float(same), 99.5, None, suffix=" %"),
    ]


def _loss(logits: Array, target: Array, weight: Array) -> float:
    """scikit-learn's objective, intercepts left out of the penalty."""
    top = logits.max(1)
    cross = np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[np.arange(len(target)), target]
    return float(STRENGTH * cross.sum() + 0.5 * (weight.astype(np.float64) ** 2).sum())


SPREAD = 5.0  # of the noise around centres of length 1 an axis: of 100 classes nine rows in ten can be told


def synthetic(rows: int, dim: int, classes: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """Unit rows around `classes` centres with shared directions of noise, their classes, and the centres."""
    dice = np.random.default_rng(seed)
    centres, target = dice.normal(size=(classes, dim)), np.arange(rows) % classes
    shared = dice.normal(size=(64, dim))
    noise = dice.normal(size=(rows, 64)) @ shared / 8 + dice.normal(size=(rows, dim))
    x = centres[target] + SPREAD * noise
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), target, centres


def linear_speed(rows: int, dim: int = 512, classes: int = 100) -> tuple[Rows, list[Line]]:
    """Seconds to scikit-learn's validation accuracy, at one C, the two in turn; the accuracy is that of as many rows
    more, and known to 0.1 points."""
    from sklearn.linear_model import LogisticRegression

    x, target, _ = synthetic(2 * rows, dim, classes)
    names, train, held = np.array([f"{c:03}" for c in target]), slice(0, rows), slice(rows, None)
    seen, made = Features.of_images(x[train]), dict[str, Any]()

    def timed(name: str, fitted: Callable[[], Any]) -> float:
        started = time.perf_counter()
        made[name] = fitted()
        return time.perf_counter() - started

    contenders = {
        "linear": lambda: fit("linear", seen, names[train], model_id="bench", strength=STRENGTH),
        "L-BFGS": lambda: LogisticRegression(C=STRENGTH, max_iter=1000).fit(x[train], target[train]),
    }
    times = in_turn({name: partial(timed, name, fitted) for name, fitted in contenders.items()}, ROUNDS)
    ours, reference = map(median, times.values())
    accuracy = np.mean(made["linear"].logits(Features.of_images(x[held])).argmax(1) == target[held])
    right = float(made["L-BFGS"].score(x[held], target[held]))
    what = f"linear, {rows} x {dim}, {classes} classes"
    return [
        [what, f"{ours:.1f} s", f"{100 * accuracy:.2f}"],
        ["scikit-learn, L-BFGS", f"{reference:.1f} s", f"{100 * right:.2f}"],
    ], [
        Line(f"time of {what}", "L-BFGS", ours / reference, 1 / 3, None, ours, reference, below=True, times=times),
        Line("validation accuracy", "L-BFGS", 100 * float(accuracy - right), -0.1, None, suffix=" points"),
    ]


def auto_speed(rows: int, dim: int = 512, classes: int = 20) -> tuple[Rows, list[Line]]:
    """Seconds of `auto` on pairs of vectors, and how many heads it tries."""
    image, target, centres = synthetic(rows, dim, classes)
    text, _, _ = synthetic(rows, dim, classes, seed=1)  # other centres and other noise, the same classes
    there = np.ones(rows, bool)
    labels = tuple(f"{c:02}" for c in range(classes))
    weight = (centres / np.linalg.norm(centres, axis=1, keepdims=True)).astype(np.float32)
    prior = LinearHead(weight, labels, "bench", 20.0)
    data = training_data(Features(image, text, there, there), np.array(labels)[target], prior)
    started = time.perf_counter()
    fit_training("auto", data)
    seconds = time.perf_counter() - started
    count = len(kinds_for(data))
    return [[f"auto, {rows} pairs, {count} heads", f"{seconds:.1f} s", data.record["kind"]]], [
        Line(f"auto over {count} heads, {rows} pairs", "", seconds, 120.0, None, suffix=" s", below=True),
        Line("heads that auto tries", "", count, 10, None, suffix=""),
    ]


def commands(bench: Bench, work: Path, model: str) -> Iterator[str]:
    """The commands on the clothing set: what they print and their exit status."""
    train, held = bench.data / "clothing" / "train", bench.data / "clothing" / "validation"
    flags = ["--model", model, "-q", "--store", work / "heads-store", "--overwrite"]
    few, everything, shuffled = (work / f"{name}.head" for name in ("few", "all", "shuffled"))
    for head in (few, everything, shuffled):
        shutil.rmtree(head, ignore_errors=True)  # of an earlier run
    yield from _run(work, "finetune", train, "--val", held, "--head", "linear", "--shots", 16, "-o", few, *flags)
    yield from _run(work, "finetune", train, "--val", held, "--head", "linear", "-o", everything, *flags)
    measured = [head for head in (few, everything) if head.is_dir()]
    heads = [flag for head in measured for flag in ("--head", head)]
    labels = sorted(path.name for path in train.iterdir())
    yield from _run(work, "evaluate", held, "--labels", ",".join(labels), *heads, *flags)
    table = _shuffled(bench, work / "shuffled.csv")
    yield from _run(work, "finetune", table, "--head", "linear", "-o", shuffled, *flags)
    yield f"left on disk after the refusal: {shuffled.exists()}"


def _run(work: Path, *arguments: object) -> Iterator[str]:
    """One command in a process of its own: the command, its output and its status."""
    done = subprocess.run([*map(str, cmprompt(*arguments))], capture_output=True, env=environment(work), check=False)
    shown = " ".join(Path(str(part)).name if "/" in str(part) else str(part) for part in arguments)
    yield f"$ cmprompt {shown}"
    yield from (done.stdout + done.stderr).decode().splitlines()
    yield f"exit status {done.returncode}"
    yield ""


def _shuffled(bench: Bench, path: Path) -> Path:
    """The training photos with each other's labels."""
    items = clothing(bench.data, "train")
    labels = np.random.default_rng(0).permutation([str(item.target) for item in items])
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = [(str(Path(item.id).resolve()), label) for item, label in zip(items, labels, strict=True)]
        csv.writer(file).writerows([("image", "label"), *rows])
    return path
