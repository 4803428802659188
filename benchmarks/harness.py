"""What the benchmarks share: the machine, fresh processes timed in turn, and results as Markdown and JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PACKAGES = ("cmprompt", "torch", "torchvision", "open_clip_torch", "transformers", "openvino", "numpy", "pillow")


@dataclass(frozen=True)
class Line:
    """One judged figure. `times`: every run of each contender, in `unit`; `below`: less is better."""

    measure: str
    against: str
    value: float
    floor: float | None
    aim: float | None
    ours: float | None = None
    theirs: float | None = None
    unit: str = "s"
    suffix: str = "x"  # what the figure and its bounds are counted in
    below: bool = False
    times: dict[str, list[float]] = field(default_factory=dict)

    @property
    def reached(self) -> str:
        return reached(self.value, self.floor, self.aim, below=self.below)


@dataclass(frozen=True)
class Run:
    """A finished process: seconds by the clock and of processor, resident MB at its highest, what it printed."""

    seconds: float
    processor_s: float
    resident_mb: float
    output: bytes


def reached(value: float, floor: float | None, aim: float | None, *, below: bool = False) -> str:
    """`aim`, `floor` or `no`; nothing where there is no bound."""
    sign = -1 if below else 1
    if floor is None:
        return ""
    if aim is not None and sign * value >= sign * aim:
        return "aim"
    return "floor" if sign * value >= sign * floor else "no"


def machine() -> str:
    """The processor's name and how many cores this process may use."""
    info = Path("/proc/cpuinfo")
    named = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    name = named[0].split(":")[1].strip() if named else platform.processor()
    return f"{name}, {cores()} cores, {_extensions(info)}"


def _extensions(info: Path) -> str:
    """The processor's matrix units for bf16, which most figures turn on."""
    flags = set(info.read_text().split()) if info.exists() else set()
    return ", ".join(sorted(flags & {"amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni"})) or "no bf16"


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(packages: Iterable[str] = PACKAGES) -> str:
    """`torch 2.9.0, ...` of those that are installed."""
    return ", ".join(f"{name} {found}" for name in packages if (found := _version(name)))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def about(**more: str) -> dict[str, str]:
    """What stands above every table of results."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": versions(),
        "load average at the start": f"{os.getloadavg()[0]:.1f}",
        **more,
    }


def environment(work: Path) -> dict[str, str]:
    """For every contender: caches of its own under `work`, nothing of the user's configuration, no network; and kept
    bytecode, as an installed program has it."""
    left_out = ("CMPROMPT_", "OMP_", "MKL_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    places = {"XDG_CACHE_HOME": str(work / "cache"), "XDG_CONFIG_HOME": str(work / "config")}
    path = os.pathsep.join([str(HERE.parent), *filter(None, [kept.get("PYTHONPATH")])])
    return {**kept, **places, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}


def run(command: Sequence[object], work: Path, *, lines: int | None = None) -> Run:
    """A fresh process to its end; with `lines`, it must have printed so many.

    Raises RuntimeError, with what it said on stderr, where it fails.
    """
    started = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=errors, env=environment(work)
        ) as process:
            assert process.stdout is not None
            output = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    printed = output.count(b"\n")
    if process.returncode or (lines is not None and printed != lines):
        raise RuntimeError(f"{command} ended with {process.returncode} after {printed} lines: {said[-2000:]}")
    return Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, output)


def cmprompt(*arguments: object) -> list[object]:
    """The command line of a `cmprompt` of this checkout."""
    return [sys.executable, "-m", "cmprompt", *arguments]


def in_turn(
    contenders: Mapping[str, Callable[[], float]], rounds: int, budget_s: float = float("inf")
) -> dict[str, list[float]]:
    """Seconds of each contender over `rounds`; the first one runs before each of the others, so that both see the same
    machine. Another round that would take a contender past `budget_s` is left out."""
    ours, *others = contenders
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name in others:
            if times[name] and sum(times[name]) + times[name][-1] > budget_s:
                continue
            for one in (ours, name):
                times[one].append(contenders[one]())
                print(f"  {one}: {times[one][-1]:.2f} s", file=sys.stderr, flush=True)
    return times


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]) + "\n"


def bounds(line: Line) -> tuple[str, str]:
    """`at least` and `aim` as they are printed."""
    sign = "≤ " if line.below else ""
    return tuple("" if bound is None else f"{sign}{bound:g}{line.suffix}" for bound in (line.floor, line.aim))  # type: ignore[return-value]


def line_table(lines: Iterable[Line]) -> str:
    """Every judged figure with its bounds; `runs` counts those of the first contender and of the other."""
    names = ("measure", "against", "ours", "theirs", "runs", "figure", "at least", "aim", "reached")
    return table(names, (_cells(line) for line in lines))


def _cells(line: Line) -> list[str]:
    sides = ["" if side is None else f"{side:.4g} {line.unit}" for side in (line.ours, line.theirs)]
    runs = ", ".join(str(len(times)) for times in line.times.values())
    figure = f"{line.value:.4g}{line.suffix}" if line.suffix else f"{line.value:.6f}"
    return [line.measure, line.against, *sides, runs, figure, *bounds(line), line.reached]


def save(name: str, title: str, lines: Sequence[Line], facts: Mapping[str, str], folder: Path, notes: str = "") -> str:
    """Write `NAME.md` and `NAME.json` into `folder`, and return the Markdown."""
    whole = [{**asdict(line), "reached": line.reached} for line in lines]
    return save_page(name, title, line_table(lines) + notes, {"lines": whole}, facts, folder)


def save_page(name: str, title: str, body: str, data: Mapping[str, Any], facts: Mapping[str, str], folder: Path) -> str:
    """The same for a benchmark with tables of its own."""
    text = "\n".join([f"# {title}", "", *(f"- {key}: {value}" for key, value in facts.items()), "", body])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps({"about": dict(facts), **data}, indent=1) + "\n", encoding="utf-8")
    return text


def median(times: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(times)


def default_data() -> Path:
    """Where the public image sets are."""
    return Path(os.environ.get("CMPROMPT_DATA", HERE.parent.parent / "shared/data"))


def _absolute(text: str) -> Path:
    return Path(text).expanduser().resolve()


def parser(doc: str | None, *, images: int | None = None, rounds: int | None = None) -> argparse.ArgumentParser:
    """The options that the benchmarks share."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if images is not None:
        made.add_argument("--images", type=int, default=images, help=f"how many pictures; default {images}")
    if rounds is not None:
        made.add_argument("--rounds", type=int, default=rounds, help=f"runs of each contender; default {rounds}")
    place = Path(tempfile.gettempdir()) / "cmprompt-benchmarks"
    made.add_argument("--work", type=_absolute, default=place, help="pictures, models and stores; default %(default)s")
    made.add_argument("--data", type=Path, default=default_data(), help="public image sets; default %(default)s")
    made.add_argument("--out", type=Path, default=RESULTS, help="where the results go; default %(default)s")
    return made
