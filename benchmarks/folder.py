"""A folder of JPEGs to labels, whole processes, against what one would use instead.

    python benchmarks/folder.py hugging-face        # line 1
    python benchmarks/folder.py clip-benchmark      # line 2
    python benchmarks/folder.py clip-retrieval      # line 3
    python benchmarks/folder.py                     # all three, ours run between

ViT-B-32 of random weights, 1,000 files of 500 x 375, ten labels in one template, nothing stored from run to run. Each
peer runs again until it has used its budget, ours before each of its runs. clip-retrieval pins other versions and has
an environment of its own under --work, made at the first run; where it does not install, or not run on two pictures,
its loop as published runs. What is found is saved after each of the three.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness import HERE, Line, about, cmprompt, in_turn, median, parser, run, save
from models import random_hugging_face, random_open_clip
from photos import write_photos

LABELS = "cat,dog,horse,coffee,rocket,person,flower,building,car,tree"
TEMPLATE = "a photo of a {}."
BUDGET_S = 100.0  # of one peer; at least one run
CLIP_RETRIEVAL = ("clip-retrieval==2.45.0", "setuptools<70")  # its clip asks for a pkg_resources that is gone since


@dataclass(frozen=True)
class Peer:
    """What it is called, how many times faster than it ours has to be, how it is run."""

    name: str
    floor: float
    aim: float
    seconds: Callable[[], float]


def ours(model: Path, folder: Path, work: Path, count: int, *more: str) -> float:
    """Seconds of one `cmprompt classify` over the folder that knows neither pictures nor labels."""
    spoken = ("--labels", LABELS, "--template", TEMPLATE, "--model", f"local-dir:{model}")
    return run(cmprompt("classify", folder, *spoken, "--no-store", "-q", *more), work, lines=count).seconds


def hugging_face(folder: Path, work: Path, count: int) -> list[Peer]:
    """The pipeline as it comes, in batches of 8, and those in bf16."""
    model = random_hugging_face(work / "hugging-face")
    script = [sys.executable, HERE / "peers/hf_pipeline.py", model, folder, "--labels", LABELS]

    def timed(*more: str) -> Callable[[], float]:
        return lambda: run([*script, *more], work, lines=count).seconds

    return [
        Peer("Hugging Face pipeline, as it comes", 8, 12, timed()),
        Peer("Hugging Face pipeline, batch 8", 4.5, 6, timed("--batch-size", "8")),
        Peer("Hugging Face pipeline, batch 8, bf16", 1.5, 2, timed("--batch-size", "8", "--bf16")),
    ]


def clip_benchmark(model: Path, folder: Path, work: Path, count: int) -> list[Peer]:
    """CLIP_benchmark's loop."""
    script = [sys.executable, HERE / "peers/open_clip_loop.py", model, folder, "--labels", LABELS, "--workers", "4"]
    return [Peer("CLIP_benchmark's loop, batch 64, fp32", 4, 5.5, lambda: run(script, work, lines=count).seconds)]


def clip_retrieval(model: Path, folder: Path, work: Path) -> list[Peer]:
    """clip-retrieval's inference, else its loop. Its own batch of 256 would only lengthen its warm-up, so 64."""
    out, weights = work / "clip-retrieval-out", model / "open_clip_model.safetensors"
    program = clip_retrieval_program(work / "clip-retrieval")

    def command(pictures: Path) -> list[object]:
        asked = [program, "inference", "--input_dataset", pictures, "--output_folder", out, "--enable_text", "False"]
        return [*asked, "--batch_size", "64", "--clip_model", f"open_clip:ViT-B-32/{weights}"]

    try:
        if program is not None:
            run(command(two_of(folder, work / "clip-retrieval-two")), work)
            return [Peer("clip-retrieval inference, batch 64", 4, 5.5, lambda: run(command(folder), work).seconds)]
    except RuntimeError as error:
        print(f"clip-retrieval does not run here, its loop does instead: {str(error)[-500:]}", file=sys.stderr)
    script = [sys.executable, HERE / "peers/clip_retrieval_loop.py", model, folder, out]
    return [Peer("clip-retrieval's loop as published", 4, 5.5, lambda: run(script, work).seconds)]


def two_of(folder: Path, place: Path) -> Path:
    """A folder with copies of the first two pictures."""
    place.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir())[:2]:
        shutil.copy(path, place)
    return place


def clip_retrieval_program(place: Path) -> Path | None:
    """Its command in a virtual environment at `place`, made where it is not there; None where that fails."""
    program = place / "bin" / "clip-retrieval"
    try:
        if not program.exists():
            print(f"installing {CLIP_RETRIEVAL[0]} in {place}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            for package in CLIP_RETRIEVAL:  # one by one: torch of today asks for newer setuptools, and runs without
                subprocess.run([place / "bin/pip", "install", "--quiet", package], check=True)
        subprocess.run([place / "bin/python", "-c", "import clip_retrieval"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"clip-retrieval does not install here ({error}); its loop runs instead", file=sys.stderr)
        return None
    return program


def lines(peers: Sequence[Peer], mine: Callable[[], float], rounds: int, count: int) -> list[Line]:
    """One judged line for each peer, from runs in turn with ours."""
    times = in_turn({"cmprompt": mine, **{peer.name: peer.seconds for peer in peers}}, rounds, BUDGET_S)
    made = []
    for peer in peers:
        us, them = median(times["cmprompt"]), median(times[peer.name])
        both = {"cmprompt": times["cmprompt"], peer.name: times[peer.name]}
        measure = f"folder of {count:,} JPEGs, cold process"
        made.append(Line(measure, peer.name, them / us, peer.floor, peer.aim, us, them, times=both))
    return made


def main() -> None:
    """Run the peers that are asked for, and save the table."""
    options = parser(__doc__, images=1000, rounds=2)
    options.add_argument("peers", nargs="*", help="hugging-face, clip-benchmark, clip-retrieval; default: all")
    asked = options.parse_args()
    folder, model = asked.work / f"photos-{asked.images}", random_open_clip(asked.work / "ViT-B-32")
    write_photos(folder, asked.images, data=asked.data)
    made = {
        "hugging-face": lambda: hugging_face(folder, asked.work, asked.images),
        "clip-benchmark": lambda: clip_benchmark(model, folder, asked.work, asked.images),
        "clip-retrieval": lambda: clip_retrieval(model, folder, asked.work),
    }
    chosen = asked.peers or list(made)
    facts = about(model="ViT-B-32, random weights", pictures=f"{asked.images} JPEGs of 500 x 375")
    ours(model, folder, asked.work, asked.images, "--limit", str(asked.images))  # warm: files read, model exported
    name, found = "-".join(["folder", *asked.peers]), []
    for one in chosen:
        mine = partial(ours, model, folder, asked.work, asked.images)
        found += lines(made[one](), mine, asked.rounds, asked.images)
        shown = save(name, "A folder of JPEGs, end to end", found, facts, asked.out)
    print(shown)


if __name__ == "__main__":
    main()
