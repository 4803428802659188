"""The recipe: `python -m training.train --data ../shared/data --work DIR --out cmprompt/tiny`.

Stages, each skipped when its product lies in WORK: decode the data; ask the teachers; the image tower (`pictures.py`);
the text tower (`words.py`); export. One process of one thread for each core, gradients averaged. Stopped and started
again with the same command, it goes on from the last checkpoint.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from training import data, probe, teachers
from training.concepts import without_latin
from training.corpus import Corpus, wnid_names
from training.evaluate import concept_figures, evaluate, image_rows
from training.lessons import Lessons, lessons
from training.model import export
from training.pictures import Pictures, Recipe
from training.words import SHARES, Seen, Words

EVERY_S = 180  # between checkpoints
LOG_STEPS = 50


@dataclass(frozen=True)
class Options:
    data: Path
    work: Path
    out: Path
    backbone: str
    images: int
    batch: int
    lr: float
    text_steps: int
    text_lr: float
    size_px: int
    processes: int
    seed: int
    held_out: frozenset[str]

    @property
    def cache(self) -> Path:
        return self.work / "cache"

    @property
    def run(self) -> Path:
        """A run's own folder; runs share the cache."""
        return self.work / (f"run-{self.backbone}-{self.images}" + ("-held-out" if self.held_out else ""))


class Journal:
    """Losses and figures to `log.jsonl`, by the first process alone."""

    def __init__(self, options: Options, rank: int) -> None:
        self.path, self.rank, self.begun = options.run / "log.jsonl", rank, time.monotonic()

    def __call__(self, **figures: object) -> None:
        if self.rank == 0:
            minutes = round((time.monotonic() - self.begun) / 60, 1)
            with self.path.open("a") as handle:
                handle.write(json.dumps({"minutes": minutes, **figures}) + "\n")


def train(
    step: Callable[[], dict[str, float]], done: Callable[[], bool], save: Callable[[], None]
) -> Iterator[dict[str, float]]:
    """Steps until it is done; yields the mean losses now and then, and saves."""
    saved, sums, count = time.monotonic(), {}, 0
    while not done():
        for name, value in step().items():
            sums[name] = sums.get(name, 0.0) + value
        count += 1
        if count % LOG_STEPS == 0 or done():
            yield {name: round(value / count, 3) for name, value in sums.items()}
            sums, count = {}, 0
        if time.monotonic() - saved > EVERY_S:
            saved = time.monotonic()
            save()


def keep(state: dict[str, Any], path: Path, rank: int) -> None:
    if rank == 0:
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)


def load_all(options: Options) -> tuple[Corpus, Lessons]:
    """The images' targets, and every phrase with its features; of held-out classes only the words are known."""
    corpus = Corpus(options.data, options.cache, options.held_out)
    names = [word for concept in corpus.targets.table.values() for word in concept.wordings]
    names += [word for cell in corpus.wnids.values() for word in without_latin(cell)]
    return corpus, lessons(options.data, options.cache, sorted(set(names)), [str(c) for c in corpus.captions.flat])


def teach_pictures(options: Options, rank: int, corpus: Corpus, known: Lessons) -> Pictures:
    recipe = Recipe(options.backbone, options.images, options.batch, options.lr, options.seed)
    pictures = Pictures(recipe, corpus, known, teachers.imagenet_names(options.data))
    path, journal, world = options.run / "pictures.pt", Journal(options, rank), options.processes
    if path.exists():
        pictures.load(torch.load(path, weights_only=True))
    pictures.model.train()
    begun = time.monotonic()
    figures = train(
        lambda: pictures.advance(rank, world),
        lambda: pictures.progress(world) >= 1,
        lambda: keep(pictures.state(), path, rank),
    )
    for losses in figures:
        journal(
            stage="pictures", progress=round(pictures.progress(world), 3), scale=pictures.space.scale.item(), **losses
        )
        if rank == 0 and time.monotonic() - begun > 600:
            begun = time.monotonic()
            journal(stage="validation", **concept_figures(pictures, options.cache, pictures.size_px(world)))
    keep(pictures.state(), path, rank)
    pictures.model.eval()
    return pictures


def look(options: Options, rank: int, pictures: Pictures) -> Seen:
    """All training images through the finished image tower, each process its share."""
    rows, labels, shares, captioned = [], [], [], torch.zeros(0)
    for name, part in pictures.corpus.parts.items():
        mine = np.array_split(part.rows, options.processes)[rank]
        path = options.run / f"seen-{name}-{rank}.npy"
        np.save(path, image_rows(pictures.model, part.images, mine, options.size_px).half().numpy())
        dist.barrier()
        parts = [np.load(options.run / f"seen-{name}-{other}.npy") for other in range(options.processes)]
        seen = torch.from_numpy(np.concatenate(parts))
        rows.append(seen)
        labels.append(torch.from_numpy(part.label[part.rows]))
        shares.append(torch.full((len(seen),), SHARES.get(name, 0.01) / len(seen)))
        captioned = seen if name == "flickr" else captioned
    captions = [[str(c) for c in pictures.corpus.captions[row]] for row in pictures.corpus.parts["flickr"].rows]
    return Seen(torch.cat(rows), torch.cat(labels), torch.cat(shares), captioned, captions)


def teach_words(options: Options, rank: int, pictures: Pictures, known: Lessons) -> Words:
    seen, path, journal = look(options, rank, pictures), options.run / "words.pt", Journal(options, rank)
    words = Words(pictures.model, pictures.space, pictures.corpus, known, seen, options.seed, options.text_lr)
    if path.exists():
        words.load(torch.load(path, weights_only=True))
    figures = train(
        lambda: words.advance(rank, options.text_steps),
        lambda: words.step >= options.text_steps,
        lambda: keep(words.state(), path, rank),
    )
    for losses in figures:
        journal(stage="words", progress=round(words.step / options.text_steps, 3), **losses)
    keep(words.state(), path, rank)
    return words


def work(rank: int, options: Options) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    meeting = f"file://{options.run / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=options.processes)
    corpus, known = load_all(options)
    corpus.listen(options.run)
    pictures = teach_pictures(options, rank, corpus, known)
    words = teach_words(options, rank, pictures, known)
    if rank == 0:
        with torch.no_grad():
            words.model.logit_scale.copy_(pictures.space.scale.log())
        export(words.model.state_dict(), options.backbone, options.size_px, options.out)
        if options.held_out:
            (options.out / "held_out.txt").write_text("".join(f"{wnid}\n" for wnid in sorted(options.held_out)))
        figures = evaluate(words.model, words.tokens, options.cache, corpus.wnids, options.size_px, options.held_out)
        Journal(options, rank)(stage="validation", **figures)
        print(json.dumps(figures, indent=1))
    dist.barrier()
    dist.destroy_process_group()


def drawn_classes(data_folder: Path, count: int, seed: int) -> frozenset[str]:
    """The classes that a run leaves out, the same ones for the same seed."""
    wnids = sorted(wnid_names(data_folder))
    return frozenset(np.random.default_rng(seed).choice(wnids, count, replace=False).tolist())


def ask(rank: int, options: Options) -> None:
    torch.set_num_threads(1)
    teachers.ask_pictures(options.cache, options.data, rank, options.processes)


def prepare(options: Options) -> None:
    """What the processes share is made once, with all cores."""
    options.run.mkdir(parents=True, exist_ok=True)
    shown = {name: str(value) for name, value in asdict(options).items()}
    (options.run / "options.json").write_text(json.dumps(shown, indent=1) + "\n")
    data.build(options.data, options.cache)
    torch.multiprocessing.spawn(ask, (options,), nprocs=options.processes)
    teachers.gather_pictures(options.cache, options.data, options.processes)
    corpus, _ = load_all(options)  # asks the sentence encoder
    probe.ask(corpus, options.run, options.seed)
    (options.run / "meeting").unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True, help="cache, checkpoints and logs; outside the repository")
    parser.add_argument("--out", type=Path, required=True, help="where the open_clip folder is written")
    parser.add_argument("--backbone", default="resnet10t")
    parser.add_argument("--images", type=int, default=2_100_000, help="seen by the image tower")
    parser.add_argument("--batch", type=int, default=128, help="images in a step of each process")
    parser.add_argument("--lr", type=float, default=2e-3, help="of the image tower")
    parser.add_argument("--text-steps", type=int, default=1500)
    parser.add_argument("--text-lr", type=float, default=2e-3)
    parser.add_argument("--size-px", type=int, default=96, help="of the shipped preprocess")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", type=int, default=0, help="so many classes are never paired with an image")
    given = vars(parser.parse_args())
    options = Options(**given | {"held_out": drawn_classes(given["data"], given["held_out"], given["seed"])})
    prepare(options)
    torch.multiprocessing.spawn(work, (options,), nprocs=options.processes)


if __name__ == "__main__":
    main()
