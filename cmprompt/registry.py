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

SOURCES = {  # how the name of a file ends that holds items: (path, options) -> items. Any other file is one item
    ".csv": "cmprompt.sources.tables:read_table",
    ".tsv": "cmprompt.sources.tables:read_table",
    ".jsonl": "cmprompt.sources.tables:read_table",
    ".parquet": "cmprompt.sources.tables:read_table",
    ".tar": "cmprompt.sources.shards:read_shard",
    ".tar.gz": "cmprompt.sources.shards:read_shard",
    ".tgz": "cmprompt.sources.shards:read_shard",
    ".zip": "cmprompt.sources.shards:read_shard",
}

ENCODERS = {  # what a name of `--model` begins with, up to a colon; any other name is open_clip's
    "open_clip": "cmprompt.encoders:load_open_clip",
    "pair": "cmprompt.encoders.pair:load",
    "tuned": "cmprompt.heads.io:load_tuned",
}

IMAGE_ENCODERS = {
    "timm": "cmprompt.encoders.timm:TimmImages",
    "classic": "cmprompt.encoders.classic:classic_images",
}

TEXT_ENCODERS = {
    "classic": "cmprompt.encoders.classic:classic_texts",
    "embedding": "cmprompt.encoders.embedding:Unlearned",
}

HEADS = {  # kinds that `finetune --head` fits: (Training, **options) -> Head
    "linear": "cmprompt.heads.probe:fit_linear",
    "linear-text": "cmprompt.heads.probe:fit_on_text",
    "mlp": "cmprompt.heads.train:fit_mlp",
    "tip-adapter": "cmprompt.heads.tip_adapter:fit_tip_adapter",
    "tip-adapter-f": "cmprompt.heads.tip_adapter:fit_tip_adapter_f",
    "gda": "cmprompt.heads.gda:fit_gda",
    "proker": "cmprompt.heads.proker:fit_proker",
    "coop": "cmprompt.heads.coop:fit_coop",
    "auto": "cmprompt.heads.auto:fit_auto",
}
CLOSED_FORMS = ("gda", "tip-adapter", "proker")  # kinds that minimise no loss in which rows could weigh
WISE_KINDS = ("linear", "gda", "coop")  # those that `--wise` mixes with the head they start from
FROM_KINDS = ("linear", "gda", "tip-adapter", "tip-adapter-f", "proker")  # those that `--from` can start from a head
VIEWLESS_KINDS = ("attention", "coop", "text", "linear-text")  # those that do not look at crops and flips

FUSIONS = {  # kinds that `finetune --head` fits on two modalities, and the one-modality networks beside them
    "image": "cmprompt.heads.single:IMAGE",
    "image-raw": "cmprompt.heads.single:PLANE",
    "text": "cmprompt.heads.single:TEXT",
    "concat": "cmprompt.heads.concat:CONCAT",
    "concat-raw": "cmprompt.heads.concat:RAW",
    "add": "cmprompt.heads.arithmetic:ADD",
    "hadamard": "cmprompt.heads.arithmetic:HADAMARD",
    "dot": "cmprompt.heads.arithmetic:DOT",
    "concat-mlp": "cmprompt.heads.concat:CONCAT_MLP",
    "concat-raw-mlp": "cmprompt.heads.concat:RAW_MLP",
    "add-mlp": "cmprompt.heads.arithmetic:ADD_MLP",
    "hadamard-mlp": "cmprompt.heads.arithmetic:HADAMARD_MLP",
    "dot-mlp": "cmprompt.heads.arithmetic:DOT_MLP",
    "weighted": "cmprompt.heads.weighted:NUMBER",
    "weighted-channels": "cmprompt.heads.weighted:CHANNELS",
    "bilinear": "cmprompt.heads.bilinear:LOW_RANK",
    "bilinear-full": "cmprompt.heads.bilinear:FULL",
    "attention": "cmprompt.heads.attention:ATTENTION",
}

SLOW_KINDS = ("coop",)  # each step of theirs goes through a tower
# Kinds that are parts of other fits, or stand beside them: they can be named, and are not offered
INNER_KINDS = ("linear-text", "image", "image-raw", "text", "concat-raw", "concat-raw-mlp")

HEAD_FORMS = {  # what a fitted head may be on disk
    "linear": "cmprompt.heads.linear:LinearHead",
    "max_pool": "cmprompt.heads.max_pool:MaxPoolHead",
    "cache": "cmprompt.heads.tip_adapter:CacheHead",
    "network": "cmprompt.heads.network:NetworkHead",
}


def head_kinds() -> list[str]:
    """The kinds of head that `finetune` offers."""
    return [kind for kind in (*HEADS, *FUSIONS) if kind not in INNER_KINDS]


def resolve(table: dict[str, str], kind: str, name: str) -> Any:
    """Import what `table` calls `name`. Raises UsageError that lists the known names."""
    if name not in table:
        raise UsageError(unknown(kind, name, table))
    module, attribute = table[name].split(":")
    return getattr(import_module(module), attribute)
