"""An explanation as one page without scripts: the heat maps, and what each text adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from cmprompt.inline import data_url
from cmprompt.utf8 import clean

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = ("label", "score", "cosine", "contribution", "text")
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>:root{{color-scheme:light dark}}
body{{font:14px sans-serif;margin:16px}}img{{max-width:100%}}td,th{{padding:2px 10px 2px 0;text-align:left}}
td.number{{text-align:right;font-variant-numeric:tabular-nums}}</style>
<h1>{title}</h1>
<img alt="heat maps: {labels}" src="{sheet}">
<p>Warm places speak for a label, as against the others. Method: {method}.</p>
<table><tr>{head}</tr>
{rows}
</table>
<p>The contributions of a label's texts add up to its cosine.</p>
</html>
"""


def to_html(title: str, sheet: Image, method: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The page. `sheet` are the heat maps; `rows` have the keys of COLUMNS, and whatever is in them stays text."""
    labels = ", ".join(dict.fromkeys(str(row["label"]) for row in rows))
    return PAGE.format(
        title=escape(clean(title)),
        labels=escape(labels, quote=True),
        sheet=data_url(sheet, quality=90),
        method=escape(method),
        head="".join(f"<th>{name}</th>" for name in COLUMNS),
        rows="\n".join(f"<tr>{''.join(_cell(row[name]) for name in COLUMNS)}</tr>" for row in rows),
    ).encode()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="number">{value:.4f}</td>'
    return f"<td>{escape(str(value))}</td>"
