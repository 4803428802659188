"""What the first line costs: `cmprompt --help` against importing typer, in turn, fresh processes.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15
COMMANDS = {
    "import typer": [sys.executable, "-c", "import typer"],
    "cmprompt --help": [sys.executable, "-m", "cmprompt", "--help"],
    "cmprompt classify --help": [sys.executable, "-m", "cmprompt", "classify", "--help"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one fresh process."""
    started = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the medians and their ratios to the first."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    base = statistics.median(times["import typer"])
    for name, measured in times.items():
        median = statistics.median(measured)
        print(f"{name:<26} {median * 1000:7.0f} ms  {median / base:5.2f}x")


if __name__ == "__main__":
    main()
