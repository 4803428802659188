"""What `index build` and `index update` share: inputs that are read again, and embedding them into a collection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmprompt.cli.details import Details
    from cmprompt.cli.notices import Say
    from cmprompt.embed import Stats
    from cmprompt.index.building import Changes
    from cmprompt.index.collections import About
    from cmprompt.index.recall import Recall
    from cmprompt.sources import SourceOptions
    from cmprompt.store import Store
    from cmprompt.types import Embedded, Encoder


def absolute(path: str) -> str:
    """So that an update finds it from anywhere."""
    return str(Path(path).absolute())


def source_options(about: About) -> SourceOptions:
    """How a collection's inputs are read."""
    from cmprompt.sources import SourceOptions

    others = ("allow_truncated", "fps", "frames")
    return SourceOptions(**{key: value for key, value in about.options.items() if key not in others}, videos=True)


def store_at(directory: str | None, say: Say) -> Store:
    """The store that holds the collections."""
    from cmprompt.store import Store, default_store_dir

    return Store(directory or default_store_dir(), say)


def embed_into(
    about: About, encoder: Encoder, kept: Store, quiet: bool, details: Details, stats: Stats
) -> tuple[Changes, int]:
    """Embed and keep; the changes and how many inputs failed. Failures are named with and without `details`."""
    from dataclasses import replace

    from cmprompt.cli import requests
    from cmprompt.cli.details import Details
    from cmprompt.cli.inputs import count_in_background
    from cmprompt.cli.notices import speaker
    from cmprompt.cli.progress import Progress
    from cmprompt.cli.texts import warn_of_row_texts
    from cmprompt.clips import sampling_of, with_frames
    from cmprompt.embed import READ_AHEAD, embed
    from cmprompt.index.building import build
    from cmprompt.signals import Interrupted
    from cmprompt.sources import read_items
    from cmprompt.vector_files import records

    options, answers = source_options(about), bool(about.options.get("requests"))
    sampling = sampling_of(about.options.get("fps"), about.options.get("frames"))
    details.run(encoder, kept)
    with Progress("embedding", quiet=quiet, details=Details(not quiet)) as progress:
        count_in_background(about.inputs, options, progress.expect, progress.drawn)
        items = read_items(about.inputs, replace(options, skipped=details.skipped))
        embedded = embed(
            items if answers else with_frames(items, sampling), encoder, kept, needs=frozenset({"image", "text"}),
            read_ahead=1 if answers else READ_AHEAD, allow_truncated=about.options.get("allow_truncated", False),
            stats=stats,
        )  # fmt: skip

        def counted() -> Iterator[Embedded]:
            for batch in embedded:
                progress.take(batch)
                if answers:
                    requests.answer(records(batch))
                yield batch

        rows = warn_of_row_texts(encoder, counted(), speaker(quiet))
        try:
            changes = build(kept.path, about, rows)
        except Interrupted as stop:
            if answers:
                stop.add_note(
                    f"the requests have not ended, so nothing is kept in {about.name!r}; asked again, they are "
                    "answered from the store"
                )
            raise
    details.work(stats)
    return changes, progress.failed


def recall_line(kind: str, found: Recall) -> str:
    """How much of the exact answer an approximate index gives, and how fast."""
    return (
        f"{kind}: recall@{found.k} {found.share:.1%} of the exact answer, asked with {found.queries} {found.asked}; "
        f"{found.approximate_ms:.1f} ms a query, exact {found.exact_ms:.1f} ms"
    )


def described(name: str, changes: Changes, failed: int) -> str:
    """What has changed in a collection, and how many inputs failed where some did."""
    return (
        f"{name}: {changes.new:,} new, {changes.changed:,} changed, {changes.deleted:,} deleted, "
        f"{changes.same:,} as before" + (f", {failed:,} failed" if failed else "")
    )
