"""What `evaluate` measured, as JSON for other programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cmprompt import metrics
from cmprompt.heads.io import json_text
from cmprompt.heads.verdict import Row
from cmprompt.report.figures import plain_rows
from cmprompt.tasks.evaluate import Contest, per_class

MOST_CONFUSED = 1000  # labels: a million counts

Gaps = Iterable[tuple[str, str, Mapping[str, float]]]  # (other, name, `verdict.paired`)


def as_json(about: Mapping[str, Any], table: Sequence[Row], more: Mapping[str, Any]) -> str:
    """`about` the run, the `table`'s lines with their 95 % intervals, and `more`. Fractions are not in per cent."""
    return json_text({**about, "table": plain_rows(table), **more})


def of_contest(found: Contest, gaps: Gaps) -> dict[str, Any]:
    """Who is better than whom; of each contender, how each label fares and, where rows have one label of at most
    `MOST_CONFUSED`, the confusion matrix: (C, C) counts, a line for each true label."""
    more: dict[str, Any] = {"comparisons": [{"name": name, "against": other, **gap} for other, name, gap in gaps]}
    if not found.labels:
        return more
    more["labels"] = found.labels
    more["per_class"] = {name: per_class(found, name) for name in found.answers}
    if found.target.ndim == 1 and len(found.labels) <= MOST_CONFUSED:
        more["confusion"] = {
            name: metrics.confusion(np.asarray(rows).argmax(1), found.target, len(found.labels))
            for name, rows in found.answers.items()
        }
    return more
