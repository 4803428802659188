"""What is to be read: the arguments, how many items they hold, the columns of their tables."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from cmprompt.errors import CmpromptError, UsageError

if TYPE_CHECKING:
    from cmprompt.cli.notices import Say
    from cmprompt.errors import Status
    from cmprompt.sources import SourceOptions

STREAMS = (".tar", ".gz", ".tgz", ".zip", ".parquet")  # reading these only to count them would double the work


def require_inputs(inputs: Sequence[str] | None, files_from: str | None, requests: bool = False) -> list[str]:
    """What is to be read. Raises UsageError where nothing is named, or something beside `requests`."""
    if requests:
        if inputs or files_from is not None:
            raise UsageError("--stdin-jsonl reads its inputs from standard input; name no others")
        return []
    if not inputs and files_from is None:
        raise UsageError("nothing to read; name files, folders or tables, or - for a list on standard input")
    return list(inputs or [])


def rereadable(inputs: Sequence[str], files_from: str | None) -> bool:
    """Whether something is named, and none of it comes through standard input or a pipe, which give it only once."""
    names = [*inputs, *([] if files_from is None else [files_from])]
    return bool(names) and not any(name == "-" or _is_stream(name) for name in names)


def _is_stream(name: str) -> bool:
    return os.path.exists(name) and not (os.path.isfile(name) or os.path.isdir(name))


def usual_columns(heads: Sequence[str]) -> dict[str, str]:
    """The columns that the heads in these directories were fitted on, the first one's where they differ."""
    from cmprompt.heads.io import columns_of

    return {field: name for head in reversed(heads) for field, name in columns_of(head).items()}


def say_columns(head: str | None, inputs: Sequence[str], options: SourceOptions, say: Say) -> None:
    """Say which columns of the first table a head is given."""
    from cmprompt.labelled import columns_line, columns_of
    from cmprompt.sources.names import is_table_name

    tables = (path for path in inputs if is_table_name(path) and os.path.isfile(path))
    if head and (table := next(tables, None)) and (columns := columns_of(table, options)):
        say(columns_line(table, columns))


def count_in_background(
    inputs: Sequence[str], options: SourceOptions, tell: Callable[[int], None], wanted: bool
) -> None:
    """Tell how many items there will be, for the time left; not where counting would read the data twice."""
    doubled = any(name.lower().endswith(STREAMS) for name in inputs)
    if not wanted or doubled or not rereadable(inputs, options.files_from):
        return
    from cmprompt.sources import read_items

    def count() -> None:
        with suppress(CmpromptError):  # the run meets it too, and says so
            tell(sum(1 for _ in read_items(inputs, options)))

    threading.Thread(target=count, name="cmprompt-count", daemon=True).start()


def warn_of_nothing(
    statuses: Counter[Status] | Counter[str], inputs: Sequence[str], skipped: int, say: Say, limit: int | None = None
) -> None:
    """Say so where a run had nothing to do, though `limit` let it: a mistyped folder looks like an empty one."""
    from cmprompt.sources.names import is_table_name

    if statuses.total() or limit == 0:
        return
    if tables := [name for name in inputs if is_table_name(name)]:
        say(f"no rows in {', '.join(tables)}")
    if folders := [name for name in inputs if not is_table_name(name)]:
        others = f"; {skipped:,} other files skipped, --all-files tries them" if skipped else ""
        say(f"no images in {', '.join(folders)}{others}")
