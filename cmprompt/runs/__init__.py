"""What a run was (header, sidecar) and where its records go: a stream, or a file that a killed run can go on with.

Beside an output FILE: `FILE.lock` while a run writes it, `FILE.journal` with the records so far, `FILE.run.json` with
what made it. FILE itself appears whole, by a rename, when the run is finished.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cmprompt.atomic import beside, check_folder, locked, replacing, there_already, writing
from cmprompt.errors import OutputError, UsageError
from cmprompt.runs.journal import Journal, status_in
from cmprompt.types import Item, Prediction
from cmprompt.writers import COLUMNAR, Record, Writer, make_writer, to_record
from cmprompt.writers.records import own_names

_FREE = ("versions",)  # may differ between a run and the one that goes on with it


@dataclass(frozen=True)
class OutputOptions:
    """How records are written."""

    format: str = "jsonl"
    header: bool = False
    keep_columns: bool = False
    csv_safe: bool = False
    flush: bool = False  # each record at once, for who waits for it
    timeline: bool = False  # seconds in each record

    def record(self, prediction: Prediction) -> Record:
        """What is written of a prediction."""
        return to_record(prediction, keep_columns=self.keep_columns, timeline=self.timeline)


@contextmanager
def open_output(
    path: str | None,
    header: Mapping[str, Any],
    options: OutputOptions,
    *,
    resume: bool = False,
    overwrite: bool = False,
    batch_size: int = 64,
    argv: Sequence[str] = (),
    say: Callable[[str], None] = lambda message: None,
) -> Iterator[StreamOutput | FileOutput]:
    """Where the records go: standard output without a `path`, else a file under a lock.

    Use: `if output.finished: return`, then `for p in predict(embed(output.remaining(items), ...)): output.write(p)`.
    Leaving the block finishes the output; leaving it by an exception keeps the journal for `resume`.
    `say` is told where a stream has no place for a column that came late.
    Raises OutputError where the file cannot be written, is there already or is being written by another run,
    UsageError where `resume` meets the journal of another run.
    """
    if path is None:
        yield from _streaming(sys.stdout.buffer, "standard output", header, options, say)
    elif os.path.exists(path) and not os.path.isfile(path):
        if os.path.isdir(path):
            raise OutputError(f"cannot write {path}: it is a folder; name a file")
        with writing(path):
            stream = open(path, "wb")  # a device or a pipe: nothing to rename
        try:
            yield from _streaming(stream, path, header, options, say)
        finally:
            with suppress(OSError):  # what could not be written has been said
                stream.close()
    else:
        target = Path(os.path.realpath(path))
        with locked(target):
            output = FileOutput(target, header, options, batch_size=batch_size, argv=argv)
            output.start(resume=resume, overwrite=overwrite)
            yield from output.guarded()


def check_output(path: str | None, *, resume: bool, overwrite: bool) -> None:
    """Raise before the work what `open_output` would raise after it of a file that is there, or has no folder."""
    if path is None or not (os.path.isfile(path) or not os.path.exists(path)):
        return
    target = Path(os.path.realpath(path))
    check_folder(target, path)
    if target.exists() and not (resume or overwrite or beside(target, "journal").exists()):
        raise there_already(target)


class StreamOutput:
    """Records to a stream as they come. Nothing to resume; in COLUMNAR formats the first record's columns are all."""

    finished = False
    done = 0
    hint: str | None = None

    def __init__(
        self,
        writer: Writer,
        name: str,
        options: OutputOptions,
        flush: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.statuses: Counter[str] = Counter()
        self._writer = writer
        self._name = name
        self._options = options
        self._flush = flush
        self._say = say
        self._columns: tuple[str, ...] | None = None  # of the first record
        self._watched = options.format in COLUMNAR

    def remaining(self, items: Iterable[Item]) -> Iterator[Item]:
        """All of `items`."""
        yield from items

    def write(self, prediction: Prediction) -> None:
        """Add one record. Raises OutputError; BrokenPipeError passes."""
        self.statuses[prediction.status] += 1
        record = self._options.record(prediction)
        if self._watched:
            self._watch(own_names(record))
        with writing(self._name):
            self._writer.write(record)
            self._flush()

    def close(self) -> None:
        """Write what is held back."""
        with writing(self._name):
            self._writer.close()

    def _watch(self, names: tuple[str, ...]) -> None:
        """Say once that a column is left out: the first record's stand for all."""
        if self._columns is None:
            self._columns = names
        elif late := [name for name in names if name not in self._columns]:
            self._say(
                f"column {late[0]!r} is left out, since the first record has none; -o FILE or --format jsonl keeps "
                "the columns of all"
            )
            self._watched = False


class FileOutput:
    """Records to a journal, a batch at a time, and at the end to the output. Made by `open_output`."""

    def __init__(
        self, path: Path, header: Mapping[str, Any], options: OutputOptions, *, batch_size: int, argv: Sequence[str]
    ) -> None:
        self.path = path
        self.finished = False
        self.statuses: Counter[str] = Counter()
        self._sidecar = beside(path, "run.json")
        self._journal_path = beside(path, "journal")
        self._header = json.loads(json.dumps({**header, "output": asdict(options), "batch_size": batch_size}))
        self._options = options
        self._batch_size = batch_size
        self._argv = list(argv)
        self._started_s = time.time()
        self._pending: list[dict[str, Any]] = []
        self._columns: dict[str, None] = {}  # what any record has beside FIELDS, in the order they came
        self._journal: Journal | None = None

    @property
    def done(self) -> int:
        """How many records earlier runs and this one have put into the journal."""
        return self._journal.done if self._journal else 0

    @property
    def hint(self) -> str | None:
        """What to say when the run is stopped."""
        if not self.done or self.finished:
            return None
        return (
            f"{self.done:,} records are kept in {self._journal_path}; the same command with --resume goes on from there"
        )

    def start(self, *, resume: bool, overwrite: bool) -> None:
        """Open the journal: go on with the one that is there, or begin a new one. Sets `finished`."""
        with writing(str(self.path)):
            journal = Journal.reopen(self._journal_path, self._batch_size) if self._journal_path.exists() else None
            if journal and not (resume or overwrite):
                journal.close()
                raise OutputError(
                    f"{self.path}: a run that wrote it was stopped after {journal.done:,} records; "
                    "--resume goes on, --overwrite starts again"
                )
            if journal and resume:
                self._continue(journal)
            elif self.path.exists() and not overwrite:
                self.finished = resume and self._was_finished()
                if not self.finished:
                    raise there_already(self.path)
            else:
                if journal:
                    journal.close()
                self._journal = Journal.create(self._journal_path, self._header)

    def remaining(self, items: Iterable[Item]) -> Iterator[Item]:
        """`items` without those whose records are in the journal. Raises UsageError where they are not the same."""
        rest = iter(items)
        for line in self._journal.lines() if self._journal else ():
            item = next(rest, None)
            status = None if item is None else status_in(line, item)
            if status is None:
                now = "nothing" if item is None else repr(item.id)
                raise UsageError(
                    f"the inputs have changed since the run was stopped: {json.loads(line)['id']!r} was there, now "
                    f"{now}; --overwrite starts again, --files-from LIST keeps the inputs of a long run the same"
                )
            if self._options.format in COLUMNAR:
                self._count(json.loads(line))
            else:
                self.statuses[status] += 1
        yield from rest

    def write(self, prediction: Prediction) -> None:
        """Add one record. Raises OutputError."""
        record = self._options.record(prediction)
        self._count(record)
        self._pending.append(record)
        if len(self._pending) >= self._batch_size:
            self._flush()

    def guarded(self) -> Iterator[FileOutput]:
        """Yield this output once; finish it afterwards, or keep what is there when an exception ends the block."""
        try:
            yield self
            if not self.finished:
                with writing(str(self.path)):
                    self._finish()
        except BaseException as error:
            with suppress(OutputError):
                self._flush()
            if self.hint:
                error.add_note(self.hint)
            raise
        finally:
            self._let_go()

    def _count(self, record: Record) -> None:
        self.statuses[record["status"]] += 1
        if names := own_names(record):
            self._columns |= dict.fromkeys(names)

    def _continue(self, journal: Journal) -> None:
        difference = _difference(journal.header, self._header)
        if difference:
            journal.close()
            raise UsageError(f"--resume: the run that was stopped had other {difference}; --overwrite starts again")
        self._journal = journal

    def _was_finished(self) -> bool:
        """Whether the output is the whole of this very run. Raises UsageError where it is another's."""
        try:
            sidecar = json.loads(self._sidecar.read_bytes())
        except (OSError, ValueError):
            return False
        if difference := _difference(sidecar.get("header", {}), self._header):
            raise UsageError(f"--resume: {self.path} was made with other {difference}; --overwrite starts again")
        self.statuses.update(sidecar.get("statuses", {}))
        return True

    def _flush(self) -> None:
        if self._pending and self._journal is not None:
            with writing(str(self._journal_path)):
                self._journal.append(self._pending)
            self._pending = []

    def _finish(self) -> None:
        """Journal -> output, whole or not at all."""
        assert self._journal is not None
        self._flush()
        header = self._header if self._options.header else None
        with replacing(self.path) as stream:
            writer = make_writer(
                self._options.format, stream, header, csv_safe=self._options.csv_safe, columns=list(self._columns)
            )
            if self._options.format == "jsonl":
                stream.writelines(self._journal.lines())  # which are what it would write
            else:
                for line in self._journal.lines():
                    writer.write(json.loads(line))
            writer.close()
            with replacing(self._sidecar) as sidecar:
                sidecar.write(json.dumps(self._account(), indent=2).encode() + b"\n")
        self.finished = True

    def _account(self) -> dict[str, Any]:
        return {
            "header": self._header,
            "argv": self._argv,
            "started": _clock(self._started_s),
            "finished": _clock(time.time()),
            "records": self.done,
            "statuses": dict(self.statuses),
        }

    def _let_go(self) -> None:
        if self._journal is None:
            return
        self._journal.close()
        if self.finished or not self._journal.done:
            self._journal_path.unlink(missing_ok=True)


def _streaming(
    stream: BinaryIO, name: str, header: Mapping[str, Any], options: OutputOptions, say: Callable[[str], None]
) -> Iterator[StreamOutput]:
    with writing(name):
        writer = make_writer(options.format, stream, header if options.header else None, csv_safe=options.csv_safe)
    output = StreamOutput(writer, name, options, stream.flush if options.flush else lambda: None, say)
    yield output
    output.close()


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The names of what differs between two headers; empty where a run may go on."""
    keys = [key for key in now if key not in _FREE and then.get(key) != now[key]]
    return ", ".join(keys)


def _clock(time_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_s))
