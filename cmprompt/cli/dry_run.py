"""The lines of --dry-run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmprompt.cli.notices import shown
from cmprompt.errors import counted

if TYPE_CHECKING:
    from cmprompt.types import Encoder, Item


def describe_run(
    encoder: Encoder,
    prompts: Mapping[str, Sequence[str]] | None,
    head: str,
    items: Iterable[Item],
    sets: Sequence[str] = (),
) -> Iterator[str]:
    """The lines of --dry-run, escaped as TSV is: with what, and what would be read."""
    yield _line("model", encoder.model_id)
    yield _line("encoding", encoding_of(encoder))
    yield _line("head", head)
    for name in sets:
        yield _line("prompts", name)
    for label, texts in (prompts or {}).items():
        yield _line("label", label, counted(len(texts), "text"), texts[0])
    for item in items:
        yield _line("input", item.id)


def _line(*cells: str) -> str:
    from cmprompt.utf8 import clean
    from cmprompt.writers.tsv import ESCAPES

    return shown("\t".join(clean(cell).translate(ESCAPES) for cell in cells))


def encoding_of(encoder: Any) -> str:
    """Precision and back end, told without the export that the store's key may need."""
    from cmprompt.encoders.openvino import runs_here

    if not hasattr(encoder, "precision"):
        return str(encoder.store_key)
    fast = not encoder.exact and runs_here(encoder.device, encoder.precision)
    return f"{encoder.precision}/{'openvino' if fast else f'torch-{encoder.device}'}"
