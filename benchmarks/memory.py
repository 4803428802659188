"""Line 11: resident memory at its highest over 1,000 and over 20,000 files, whole processes with a new store.

    python benchmarks/memory.py [--model local-dir:DIR]

The files are the generated JPEGs; the later ones are copies that differ in a comment, so that each is a content of its
own and is decoded and encoded like any other. The bundled model, because it is quick.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from harness import Line, about, cmprompt, parser, run, save
from photos import write_photos

TIMES = 20


def write_copies(paths: list[Path], folder: Path, times: int) -> Path:
    """`times` as many files as `paths`; every copy's bytes are its own, its pixels are not."""
    folder.mkdir(parents=True, exist_ok=True)
    for turn in range(times):
        for path in paths:
            copy = folder / f"{turn:02}-{path.name}"
            if not copy.exists():
                data, comment = path.read_bytes(), f"copy {turn:04}".encode()
                segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment  # COM, after the start marker
                copy.write_bytes(data[:2] + segment + data[2:])
    return folder


def resident_mb(folder: Path, model: str, work: Path, count: int) -> float:
    """Of one `cmprompt classify` that stores its vectors and writes JSONL to a file."""
    store, out = work / "memory-store", work / "memory.jsonl"
    shutil.rmtree(store, ignore_errors=True)
    flags = ("--labels", "cat,dog,house", "--model", model, "--store", store, "-q", "-o", out, "--overwrite")
    used = run(cmprompt("classify", folder, *flags), work)
    assert out.read_bytes().count(b"\n") == count
    print(f"  {count:,} files: {used.resident_mb:.0f} MB, {used.seconds:.0f} s", file=sys.stderr)
    return used.resident_mb


def main() -> None:
    """Save the line."""
    options = parser(__doc__, images=1000, rounds=2)
    options.add_argument("--model", default="tiny")
    asked = options.parse_args()
    few = asked.work / f"photos-{asked.images}"
    many = write_copies(write_photos(few, asked.images, data=asked.data), asked.work / f"copies-{asked.images}", TIMES)
    facts = about(model=asked.model, pictures=f"{asked.images} JPEGs of 500 x 375, and {TIMES} times as many")
    resident_mb(few, asked.model, asked.work, asked.images)  # warm: the model is exported, which takes memory too
    small = [resident_mb(few, asked.model, asked.work, asked.images) for _ in range(asked.rounds)]
    large = [resident_mb(many, asked.model, asked.work, TIMES * asked.images) for _ in range(asked.rounds)]
    measure = f"resident memory, {TIMES * asked.images:,} files"
    against = f"{asked.images:,} files"
    line = Line(
        measure, against, max(large) / max(small), 1.1, 1.0, max(large), max(small), unit="MB", below=True,
        times={measure: large, against: small},
    )  # fmt: skip
    print(save("memory", "Memory over few files and many", [line], facts, asked.out))


if __name__ == "__main__":
    main()
