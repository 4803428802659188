"""The tables NAME -> "module:attribute". Adding a thing is one new file and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cmprompt.errors import UsageError, unknown

WRITERS = {
    "table": "cmprompt.writers.table:TableWriter",
    "tsv": "cmprompt.writers.tsv:TsvWriter",
    "jsonl": "cmprompt.writers.jsonl:JsonlWriter",
    "csv": "cmprompt.writers.csv:CsvWriter",
    "parquet": "cmprompt.writers.parquet:ParquetWriter",
}

SOURCES = {
    "files": "cmprompt.sources.files:read_files",
    "table": "cmprompt.sources.tables:read_table",
    "shard": "cmprompt.sources.shards:read_shard",
}

ENCODERS = {
    "open_clip": "cmprompt.encoders.open_clip:load",
}

HEADS = {
    "linear": "cmprompt.heads.linear:LinearHead",
}


def resolve(table: dict[str, str], kind: str, name: str) -> Any:
    """Import what `table` calls `name`. Raises UsageError that lists the known names."""
    if name not in table:
        raise UsageError(unknown(kind, name, table))
    module, attribute = table[name].split(":")
    return getattr(import_module(module), attribute)
