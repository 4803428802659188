"""One of each thing that CONTRIBUTING says how to add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from conftest import FakeEncoder

from cmprompt.heads.linear import LinearHead
from cmprompt.heads.training import Training
from cmprompt.sources.options import SourceOptions, file_item
from cmprompt.types import Encoder, Item


class Shout:
    """A writer: a line in capitals for each record."""

    def __init__(self, stream: BinaryIO, header: Mapping[str, Any] | None = None) -> None:
        self._stream = stream

    def write(self, record: Mapping[str, Any]) -> None:
        answer = record.get("label", record["status"])
        self._stream.write(f"{Path(record['id']).stem} {answer}\n".upper().encode())

    def close(self) -> None:
        self._stream.flush()


def read_m3u(path: str, options: SourceOptions) -> Iterator[Item]:
    """A source: a playlist of pictures, the lines that begin with # left out."""
    for line in Path(path).read_text().splitlines():
        if line and not line.startswith("#"):
            yield file_item(str(Path(path).parent / line))


def fit_means(data: Training) -> LinearHead:
    """A head: the mean of each class's rows."""
    means = np.stack([data.x[data.targets == number].mean(0) for number in range(len(data.labels))])
    return LinearHead(means.astype(np.float32), data.labels, data.model_id, scale=20.0)


def load_colours(model: str, **options: Any) -> Encoder:
    """An encoder: it sees the mean colour."""
    return FakeEncoder(model)
