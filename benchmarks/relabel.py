"""Other labels on the same folder: the second run over 1,000 photos against the first, whole processes, a new store.

python benchmarks/relabel.py [--model tiny]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from photos import write_photos

COUNT = 1000
LABELS = ("cat,dog,horse,coffee,rocket,person", "flower,building,car,bicycle,moon,grass")


def seconds(folder: Path, labels: str, store: Path, model: str) -> float:
    """Wall time of one `cmprompt classify` as a fresh process."""
    command = [sys.executable, "-m", "cmprompt", "classify", folder, "--labels", labels, "--store", store]
    started = time.perf_counter()
    done = subprocess.run([*map(str, command), "--model", model], capture_output=True, check=True)
    assert done.stdout.count(b"\n") == COUNT
    return time.perf_counter() - started


def main() -> None:
    """Print the times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    model = parser.parse_args().model
    with tempfile.TemporaryDirectory() as scratch:
        folder, store = Path(scratch) / "photos", Path(scratch) / "store"
        write_photos(folder, COUNT)
        time.sleep(3)  # a file changed in the last two seconds is read again
        first = seconds(folder, LABELS[0], store, model)
        fresh = seconds(folder, LABELS[1], store, model)
        known = seconds(folder, LABELS[1], store, model)
    print(f"first run            {first:7.2f} s")
    print(f"other labels         {fresh:7.2f} s  {fresh / first:.3f} of the first")
    print(f"labels seen before   {known:7.2f} s  {known / first:.3f} of the first")


if __name__ == "__main__":
    main()
