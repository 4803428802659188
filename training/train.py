"""The recipe: `python -m training.train --data ../shared/data --work DIR --out cmprompt/tiny`.

Stages, each skipped when its product lies in WORK: decode the data; ask the teachers; teach the text tower alone;
train both towers; export. One process of one thread for each core, gradients averaged: cores that are shared with other
work do not wait for each other inside every operation. Stopped and started again with the same command, it goes on from
the last checkpoint.
"""

import argparse
import json
import math
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn import functional as F

from training import data, teachers
from training.concepts import without_latin
from training.corpus import Batch, Corpus
from training.distil import Distiller, lessons
from training.evaluate import evaluate
from training.model import build, encode_text, export, pixels
from training.targets import concept_loss
from training.texts import Tokens, phrase

VOCAB_ROWS = 72  # concepts whose text is encoded anew in a step with text; the others stand in the table
SPOKEN_FROM = 0.6  # progress; before, the text tower is too far from the table to teach images
TEXT_EVERY = 4  # steps; the text tower costs much beside so small an image tower
QUEUE = 768  # captions and their images of past steps that serve as negatives
EMA = 0.998
STAGES = ((0.0, 48, 0.6), (0.7, 64, 0.5))  # from this progress on: size in px, smallest crop
TEACHER_WEIGHT, CAPTION_WEIGHT, DISTIL_WEIGHT = 0.5, 0.5, 0.15


@dataclass(frozen=True)
class Options:
    data: Path
    work: Path
    out: Path
    backbone: str
    minutes: float
    text_minutes: float
    batch: int
    lr: float
    text_lr: float
    size_px: int
    seed: int
    held_out: frozenset[str]

    @property
    def cache(self) -> Path:
        return self.work / "cache"

    @property
    def run(self) -> Path:
        """A run's own folder; runs share the cache."""
        return self.work / (f"run-{self.backbone}" + ("-held-out" if self.held_out else ""))


class Student:
    """Both towers, what teaches them, and what a checkpoint holds."""

    def __init__(self, options: Options, rank: int) -> None:
        torch.manual_seed(options.seed)
        self.options, self.rank = options, rank
        self.corpus = Corpus(options.data, options.cache, options.held_out)
        self.tokens = Tokens(8192, 32)
        self.model = build(options.backbone)
        words = list(dict.fromkeys(w for c in self.corpus.targets.table.values() for w in c.wordings))
        # held-out classes stay in the text tower's lessons: their words are known, their pictures are not
        words += [w for wnid in sorted(options.held_out) for w in without_latin(self.corpus.wnids[wnid])]
        captions = [str(c) for five in self.corpus.captions[self.corpus.parts["flickr"].rows] for c in five]
        self.distiller = Distiller(256, lessons(options.data, options.cache, words, captions))
        self.imagenet = teachers.imagenet_names(options.data)
        self.columns = [i for i, n in enumerate(self.imagenet) if not self.corpus.forbidden.search(n)]
        # a vector for each concept, which images learn from at once and the text tower follows
        self.table = torch.nn.Parameter(torch.zeros(len(self.corpus.targets.keys), 256))
        # AdamW drove the image tower into a few outlying directions at every rate that was fast enough; SGD does not
        self.image = torch.optim.SGD(
            _groups(self.model.visual.named_parameters(), 5e-4), lr=options.lr, momentum=0.9, nesterov=True
        )
        named = [*self.model.named_parameters(), *self.distiller.named_parameters(), ("embedding", self.table)]
        rest = _groups([(n, p) for n, p in named if not n.startswith("visual.")], 0.05)
        self.text = torch.optim.AdamW(rest, lr=options.text_lr, betas=(0.9, 0.99), fused=True)
        self.ema = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.elapsed, self.step = 0.0, 0
        self.queues = [torch.zeros(0, 256), torch.zeros(0, 256)]

    def seed(self) -> None:
        """Each process draws its own batches, and other ones after a restart."""
        torch.manual_seed(self.options.seed + 1000 * self.rank + self.step)
        self.rng = np.random.default_rng([self.options.seed, self.rank, self.step])

    @torch.no_grad()
    def encode_names(self, names: list[str]) -> torch.Tensor:
        """(M, D) unit rows of `a photo of a NAME.`"""
        rows = [f"a photo of a {name}." for name in names]
        return torch.cat([encode_text(self.model, self.tokens(rows[i : i + 256])) for i in range(0, len(rows), 256)])

    @torch.no_grad()
    def centre(self) -> None:
        """Takes out what all names share, in the bias before the projection, and starts the table from the names."""
        names = [concept.wordings[0] for concept in self.corpus.targets.table.values()]
        pooled: list[torch.Tensor] = []
        hook = self.model.ln_final.register_forward_hook(lambda _m, _i, out: pooled.append(out.detach()))
        tokens = self.tokens([f"a photo of a {name}." for name in names])
        encode_text(self.model, tokens, chunk=len(names))
        hook.remove()
        order = (tokens.argmax(-1) + 1).argsort()
        ends = pooled[0][torch.arange(len(names)), tokens[order].argmax(-1)]
        self.model.ln_final.bias -= ends.mean(0)
        self.model.logit_scale.fill_(math.log(20))
        self.table.copy_(self.encode_names(names))

    def rate(self, progress: float) -> None:
        """One cycle: up over the first 6 %, then a half cosine down."""
        shape = progress / 0.06 if progress < 0.06 else 0.5 * (1 + math.cos(math.pi * (progress - 0.06) / 0.94))
        for optimizer, peak in ((self.image, self.options.lr), (self.text, self.options.text_lr)):
            for group in optimizer.param_groups:
                group["lr"] = peak * max(shape, 0.002)

    def average(self) -> None:
        keep = min(EMA, (1 + self.step) / (10 + self.step))
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                self.ema[name].lerp_(tensor, 1 - keep)
            else:
                self.ema[name].copy_(tensor)

    def save(self, path: Path) -> None:
        state = {"model": self.model.state_dict(), "ema": self.ema, "table": self.table.data}
        state |= {"image": self.image.state_dict(), "text": self.text.state_dict()}
        state |= {"distiller": self.distiller.state_dict(), "elapsed": self.elapsed, "step": self.step}
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.table.data.copy_(state["table"])
        self.distiller.load_state_dict(state["distiller"])
        self.image.load_state_dict(state["image"])
        self.text.load_state_dict(state["text"])
        self.ema, self.elapsed, self.step = state["ema"], state["elapsed"], state["step"]

    def log(self, **figures: object) -> None:
        with (self.options.run / "log.jsonl").open("a") as handle:
            handle.write(json.dumps({"minutes": round(self.elapsed / 60, 1), "step": self.step, **figures}) + "\n")


def _groups(parameters: Iterable[tuple[str, torch.nn.Parameter]], decay: float) -> list[dict[str, object]]:
    """No decay on vectors and on tables of embeddings."""
    named = list(parameters)
    flat = [p for n, p in named if p.ndim < 2 or "embedding" in n]
    deep = [p for n, p in named if not (p.ndim < 2 or "embedding" in n)]
    return [{"params": deep, "weight_decay": decay}, {"params": flat, "weight_decay": 0.0}]


def share_gradients(parameters: list[torch.nn.Parameter], progress: float) -> float:
    """Averages the gradients over the processes; the first one's clock goes to all."""
    if not dist.is_initialized():
        return progress
    grads = [p.grad for p in parameters if p.grad is not None]
    clock = torch.tensor([progress if dist.get_rank() == 0 else 0.0])
    flat = torch.cat([*(g.flatten() for g in grads), clock])
    dist.all_reduce(flat)
    start = 0
    for grad in grads:
        grad.copy_(flat[start : start + grad.numel()].view_as(grad) / dist.get_world_size())
        start += grad.numel()
    return flat[-1].item()


def teach_text(student: Student) -> None:
    """The text tower alone, from its two teachers, by the clock."""
    budget, begun, losses, progress = 60 * student.options.text_minutes, time.monotonic(), [], 0.0
    text = [p for n, p in student.model.named_parameters() if not n.startswith("visual.")]
    parameters = [*(p for p in text if p is not student.model.logit_scale), *student.distiller.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    while progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(progress / 0.05 + 0.01, 1 - 0.9 * progress)
        loss = student.distiller(student.model, student.tokens, 256, student.rng)
        optimizer.zero_grad()
        loss.backward()
        progress = share_gradients(parameters, (time.monotonic() - begun) / budget)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        if len(losses) % 50 == 0 and student.rank == 0:
            student.log(stage="text", progress=round(progress, 3), loss=round(sum(losses[-50:]) / 50, 4))
    student.ema = {name: tensor.clone() for name, tensor in student.model.state_dict().items()}


class Losses:
    """The sum that both towers learn from, with the text vectors it keeps between steps."""

    def __init__(self, student: Student) -> None:
        self.student = student
        self.concepts = list(student.corpus.targets.table.values())
        self.follow = 0.0
        self.names = torch.zeros(0, 256)  # (1000, D), renewed now and then
        native = (
            "amx_bf16"
            if torch.cpu._is_amx_tile_supported()
            else "avx512_bf16"
            if torch.cpu._is_avx512_bf16_supported()
            else ""
        )
        self.bf16 = bool(native)
        can_compile = shutil.which("g++") is not None
        self.visual = torch.compile(student.model.visual, dynamic=False) if can_compile else student.model.visual

    def __call__(self, batch: Batch, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        student, model = self.student, self.student.model
        if student.step % 100 == 0 or not len(self.names):
            self.names = student.encode_names([student.imagenet[i].split(", ")[0] for i in student.columns])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            rows = self.visual(pixels(batch.pixels))
        images = F.normalize(rows.float(), dim=1)
        scale = model.logit_scale.exp().clamp(max=60)
        heads = F.normalize(student.table, dim=1)
        loss = torch.zeros(())
        if student.step % TEXT_EVERY == 0:
            spoken, follow = self._spoken(heads)
            heads = spoken if progress >= SPOKEN_FROM else heads
            loss = follow + TEXT_EVERY * DISTIL_WEIGHT * student.distiller(model, student.tokens, 48, student.rng)
        concept = concept_loss(scale * images @ heads.T, batch.weights, batch.mask)
        teacher = self._teacher(scale * images[batch.taught] @ self.names.T, batch.soft)
        caption = self._captions(images[batch.captioned], batch.captions, scale)
        loss = loss + concept + TEACHER_WEIGHT * teacher + CAPTION_WEIGHT * caption
        self.follow = follow.item() if student.step % TEXT_EVERY == 0 else self.follow
        return loss, {
            "concept": concept.item(),
            "teacher": teacher.item(),
            "caption": caption.item(),
            "follow": self.follow,
        }

    def _spoken(self, heads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(V, D) heads with some concepts as the text tower has them, and how far it is from the table."""
        rng = self.student.rng
        rows = rng.choice(len(self.concepts), VOCAB_ROWS, replace=False)
        words = [phrase(self.concepts[row].wordings, rng) for row in rows]
        fresh, where = encode_text(self.student.model, self.student.tokens(words)), torch.from_numpy(rows)
        nearest = F.cross_entropy(20 * fresh @ heads.detach().T, where)
        follow = nearest + (1 - (fresh * heads.detach()[where]).sum(1)).mean()
        return heads.index_copy(0, where, fresh), TEXT_EVERY * follow

    def _teacher(self, logits: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
        """Cross entropy with the teacher's probabilities of the names that may be learnt, by its confidence."""
        allowed = soft[:, self.student.columns]
        mass = allowed.sum(1, keepdim=True)
        confidence = (soft.max(1).values * mass[:, 0]).sqrt()
        each = -(allowed / mass.clamp(min=1e-6) * logits.log_softmax(1)).sum(1)
        return (confidence * each).mean()

    def _captions(self, images: torch.Tensor, captions: list[str], scale: torch.Tensor) -> torch.Tensor:
        texts = encode_text(self.student.model, self.student.tokens(captions))
        queues = self.student.queues
        target = torch.arange(len(images))
        to_text = F.cross_entropy(scale * images @ torch.cat([texts, queues[0]]).T, target)
        to_image = F.cross_entropy(scale * texts @ torch.cat([images, queues[1]]).T, target)
        for row, new in enumerate((texts, images)):
            queues[row] = torch.cat([new.detach(), queues[row]])[:QUEUE]
        return (to_text + to_image) / 2


def teach_both(student: Student) -> None:
    """Both towers, by the clock, larger pictures as it goes; a checkpoint every three minutes, figures every twenty."""
    options, losses = student.options, Losses(student)
    image = [p for group in student.image.param_groups for p in group["params"]]
    others = [p for group in student.text.param_groups for p in group["params"]]
    budget, progress, sums, seen = 60 * options.minutes, 0.0, {}, 0
    saved = checked = student.elapsed
    student.model.train()
    progress, last = student.elapsed / budget, time.monotonic()
    while progress < 1:
        size_px, smallest = [stage[1:] for stage in STAGES if progress >= stage[0]][-1]
        student.rate(progress)
        batch = student.corpus.draw(options.batch, size_px, smallest, student.rng)
        loss, parts = losses(batch, progress)
        student.image.zero_grad()
        student.text.zero_grad()
        loss.backward()
        now = time.monotonic()
        # compiling a new size does not eat the budget
        student.elapsed, last = student.elapsed + min(now - last, 20), now
        progress = share_gradients([*image, *others], student.elapsed / budget)
        # apart: the text tower's large steps must not shrink the image tower's
        torch.nn.utils.clip_grad_norm_(image, 5.0)
        torch.nn.utils.clip_grad_norm_(others, 2.0)
        student.image.step()
        student.text.step()
        student.step, seen = student.step + 1, seen + 1
        sums = {name: sums.get(name, 0.0) + value for name, value in parts.items()}
        if student.rank:
            continue
        student.average()
        if student.step % 50 == 0:
            means = {name: round(total / seen, 3) for name, total in sums.items()}
            scale = round(student.model.logit_scale.exp().item(), 1)
            student.log(stage="both", progress=round(progress, 4), size_px=size_px, scale=scale, **means)
            sums, seen = {}, 0
        if student.elapsed - saved > 180:
            saved = student.elapsed
            student.save(options.run / "checkpoint.pt")
        if student.elapsed - checked > 1200:
            checked = student.elapsed
            report(student, min(size_px + 8, options.size_px))
            last = time.monotonic()


def report(student: Student, size_px: int) -> dict[str, float]:
    """Figures of the averaged weights."""
    model = build(student.options.backbone)
    model.load_state_dict(student.ema)
    figures = evaluate(model, student.tokens, student.options.cache, student.corpus.wnids, size_px)
    student.log(stage="validation", size_px=size_px, **figures)
    return figures


def work(rank: int, world: int, options: Options) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    student = Student(options, rank)
    meeting = options.run / "meeting"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    text, checkpoint = options.run / "text.pt", options.run / "checkpoint.pt"
    if checkpoint.exists():
        student.load(checkpoint)
    elif text.exists():
        student.load(text)
    else:
        student.seed()
        teach_text(student)
        student.centre()
        if rank == 0:
            student.save(text)
    student.seed()
    teach_both(student)
    if rank == 0:
        student.save(checkpoint)
        export(student.ema, options.backbone, options.size_px, options.out)
        report(student, options.size_px)
    dist.barrier()
    dist.destroy_process_group()


def prepare(options: Options) -> None:
    """What the processes share is made once, with all cores."""
    options.run.mkdir(parents=True, exist_ok=True)
    data.build(options.data, options.cache)
    teachers.ask_pictures(options.data, options.cache)
    Student(options, 0)  # asks the sentence encoder
    (options.run / "meeting").unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True, help="cache, checkpoints and logs; outside the repository")
    parser.add_argument("--out", type=Path, required=True, help="where the open_clip folder is written")
    parser.add_argument("--backbone", default="gernet_s")
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--text-minutes", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=96, help="images in a step of each process")
    parser.add_argument("--lr", type=float, default=0.15, help="of the image tower (SGD)")
    parser.add_argument("--text-lr", type=float, default=5e-4, help="of the text tower (AdamW)")
    parser.add_argument("--size-px", type=int, default=80, help="of the shipped preprocess")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", default="", help="wnids, comma-separated, never paired with an image")
    given = vars(parser.parse_args())
    world = given.pop("processes")
    options = Options(**given | {"held_out": frozenset(filter(None, given["held_out"].split(",")))})
    prepare(options)
    torch.multiprocessing.spawn(work, (world, options), nprocs=world)


if __name__ == "__main__":
    main()
