"""A table for people: id, label, a bar for its score, and what came next. Rows appear as they are decided."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO

from cmprompt.utf8 import printable
from cmprompt.writers.records import Record

BAR_CELLS = 10
CELLS = 80  # of a line, where neither COLUMNS nor a terminal says
LEAST_CELLS = 20  # less shows nothing; COLUMNS=0 is how some shells say that they do not know
LINES = 25  # of a console; without a number Rich looks for one, and takes COLUMNS for one whatever it holds
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class TableWriter:
    """One line a record, as wide as `width_of` says. Colour only on a terminal without NO_COLOR."""

    def __init__(self, stream: BinaryIO, header: Mapping[str, Any] | None = None) -> None:
        from rich.console import Console

        self._stream = stream
        self._text = io.StringIO()
        terminal = stream.isatty()
        colour = terminal and not os.environ.get("NO_COLOR")
        self._console = Console(
            file=self._text, force_terminal=terminal, no_color=not colour, width=width_of(terminal), height=LINES,
            highlight=False, markup=False,
        )  # fmt: skip
        cells = self._console.width
        self._label_cells = max(12, min(24, cells // 5))
        self._id_cells = max(16, (cells - self._label_cells - BAR_CELLS - 10) // 2)

    def write(self, record: Record) -> None:
        from rich.text import Text

        line = Text(no_wrap=True, overflow="ellipsis")
        line.append_text(_fitted(_name(record), self._id_cells, keep_end=True))
        line.append("  ")
        if record["status"] == "ok":
            self._decision(line, record)
        else:
            line.append(f"{record['status']}: {printable(record['error'])}", "red")
        self._console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
        self._stream.write(self._text.getvalue().encode())
        self._stream.flush()  # a person is waiting
        self._text.seek(0)
        self._text.truncate()

    def close(self) -> None:
        self._stream.flush()

    def _decision(self, line: Any, record: Record) -> None:
        if "value" in record:
            line.append(f"{record['value']:.6g}", "bold")
            return
        labels = record.get("labels")
        label = record["label"] if not labels else ", ".join(labels)
        line.append_text(_fitted(printable(label or "-"), self._label_cells, "bold" if label else "dim"))
        score = record["score"] or 0.0
        line.append(f" {score:5.1%}".rjust(7) + " ")
        line.append(_bar(score), "green" if label else "dim")
        others = [f"{printable(name)} {value:.0%}" for name, value in record["top"] if name != record["label"]]
        texts = [printable(text) for text, _ in record.get("descriptors", ())[:1]]
        line.append("  " + ", ".join([*(f"[{flag}]" for flag in record.get("flags", ())), *texts, *others]), "dim")


def width_of(terminal: bool) -> int:
    """The cells of a line: COLUMNS where it is a width, else the terminal's own, else CELLS."""
    asked = os.environ.get("COLUMNS", "")
    if len(asked) <= 4 and asked.isdecimal() and int(asked) >= LEAST_CELLS:
        return int(asked)
    if terminal:
        with suppress(OSError):
            return os.get_terminal_size().columns or CELLS
    return CELLS


def _name(record: Record) -> str:
    """The id, with the seconds of a stretch of video or the question that was asked."""
    question = f" {printable(record['question'])}" if "question" in record else ""
    seconds = f" {record['start_s']:.1f}-{record['end_s']:.1f} s" if record.get("end_s") is not None else ""
    return printable(record["id"]) + seconds + question


def _bar(score: float) -> str:
    """`score` from 0 to 1 as BAR_CELLS cells, in eighths."""
    whole, part = divmod(round(score * BAR_CELLS * 8), 8)
    return ("█" * whole + _EIGHTHS[part] * (part > 0)).ljust(BAR_CELLS)


def _fitted(text: str, cells: int, style: str = "", *, keep_end: bool = False) -> Any:
    """`text` in exactly `cells` cells; too long a one loses its end, or its beginning."""
    from rich.cells import cell_len
    from rich.text import Text

    if keep_end and cell_len(text) > cells:
        while cell_len(text) > cells - 1:
            text = text[1:]
        text = "…" + text
    fitted = Text(text, style)
    fitted.truncate(cells, overflow="ellipsis", pad=True)
    return fitted
