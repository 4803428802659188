"""Every measure of speed, one after another, about 25 minutes on two cores; the summary is results/speed.md.

    python benchmarks/all.py                 # a quiet machine, please
    python benchmarks/all.py --tenth         # a tenth of the size, to see that it works

A script that fails is named in the summary, and the others go on. Where there is no GPU, what gpu.py found on another
machine stands there. Above each table is what its script says of itself and the summary does not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from harness import HERE, Line, about, environment, line_table, parser, save_page

SCRIPTS = {  # script -> what `--tenth` makes of it
    "folder": ["--images", "100", "--rounds", "1"],
    "limit": ["--images", "100", "--rounds", "1"],
    "large": ["--images", "20", "--rounds", "1"],
    "one_image": ["--rounds", "1"],
    "relabel": ["--images", "100", "--rounds", "1"],
    "score": ["--vectors", "100000", "--rounds", "1"],
    "texts": ["--labels", "40", "--peer-labels", "10", "--rounds", "1"],
    "memory": ["--images", "100"],
    "agreement": ["--images", "200"],
    "gpu": ["--images", "100", "--rounds", "1"],
}


def seconds(script: str, flags: list[str], work: Path) -> tuple[float, int]:
    """Wall time of one script, and its status."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, HERE / f"{script}.py", *flags], check=False, env=environment(work))
    return time.perf_counter() - started, done.returncode


def result_of(saved: Path, facts: Mapping[str, str]) -> str:
    """The table that a script saved, under those of its facts that are not the summary's: another machine's say so."""
    data = json.loads(saved.read_text(encoding="utf-8"))
    own = [f"- {key}: {value}\n" for key, value in data["about"].items() if facts.get(key) != value]
    names = {field.name for field in fields(Line)}
    lines = [Line(**{name: value for name, value in line.items() if name in names}) for line in data["lines"]]
    return "".join([*own, "\n"]) + line_table(lines)


def main() -> None:
    """Run them and save the summary."""
    options = parser(__doc__)
    options.add_argument("--tenth", action="store_true", help="a tenth of the size")
    options.add_argument("--only", action="append", choices=list(SCRIPTS), help="this script; repeatable")
    asked = options.parse_args()
    chosen, facts, body = asked.only or list(SCRIPTS), about(), ""
    places = ["--work", str(asked.work), "--data", str(asked.data), "--out", str(asked.out)]
    total_s = 0.0
    for script in chosen:
        print(f"{script}.py", file=sys.stderr, flush=True)
        spent_s, status = seconds(script, [*places, *(SCRIPTS[script] if asked.tenth else [])], asked.work)
        total_s += spent_s
        made = asked.out / f"{script.replace('_', '-')}.json"
        found = result_of(made, facts) if made.exists() and not status else "Not run here.\n"
        result = f"Ended with {status}.\n" if status else found
        body += f"\n## {script}.py, {spent_s:.0f} s\n\n{result}"
    whole = {**facts, "took": f"{total_s / 60:.1f} minutes"}
    print(save_page("speed", "Speed", body, {"scripts": chosen}, whole, asked.out))


if __name__ == "__main__":
    main()
