"""Image-text retrieval: `evaluate`, `search` and a plain reference give the same figures."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeEncoder
from labelled_photos import write_table
from test_collections import about
from test_sources_shards import write as write_shard

from cmprompt import load_encoder
from cmprompt.cli.app import run
from cmprompt.embed import embed
from cmprompt.errors import UsageError
from cmprompt.examples import PHOTOS, installed
from cmprompt.heads.verdict import Row
from cmprompt.index.building import build
from cmprompt.index.collections import Collection
from cmprompt.labelled import read_labelled
from cmprompt.labelled.vectors import embed_labelled
from cmprompt.sources import read_items
from cmprompt.tasks.evaluate import RETRIEVED, retrieval
from cmprompt.types import Array, Features

BOTH = frozenset({"image", "text"})


class PixelEncoder(FakeEncoder):
    """Every picture has a vector of its own, its pixels seen through a fixed matrix; so has every text."""

    dim = 64
    _seen = np.random.default_rng(0).standard_normal((192, 64)).astype(np.float32)

    def encode_images(self, pixels: Array) -> Array:
        return unit((pixels.reshape(len(pixels), -1) / np.float32(128) - 1) @ self._seen)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        return unit(np.stack([np.random.default_rng([*text.encode()]).standard_normal(64) for text in texts]))


def unit(rows: Array) -> Array:
    scaled: Array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def figures(rows: list[Row]) -> list[list[float]]:
    return [[row.figures[f"R@{k}"] for k in RETRIEVED] for row in rows]


def test_several_texts_of_one_picture_are_all_its_own() -> None:
    image, text = np.eye(3, dtype=np.float32), unit(np.array([[1, 2, 0], [2, 1, 0], [0, 0, 1], [0, 1, 2]]))
    both = np.ones(4, bool)
    rows = retrieval(Features(image[[0, 0, 1, 2]], text, both, both))
    assert figures(rows)[0] == pytest.approx([1 / 3, 1, 1])
    assert figures(rows)[1] == pytest.approx([2 / 4, 1, 1])


def random_pairs(images: int, texts: int) -> tuple[Features, Array]:
    """Pairs whose pictures have several texts each or none, and (texts,) the number of each one's picture."""
    dice = np.random.default_rng(0)
    image, text, own = *(unit(dice.standard_normal((n, 8))) for n in (images, texts)), dice.integers(0, images, texts)
    return Features(image[own], text, np.ones(texts, bool), np.ones(texts, bool)), own


def test_figures_are_those_of_the_whole_table_of_products() -> None:
    features, own = random_pairs(300, 600)
    assert features.image is not None and features.text is not None
    _, first = np.unique(own, return_index=True)
    first.sort()
    table = features.image[first].astype(np.float64) @ features.text.astype(np.float64).T  # (images, texts)
    is_own = own[first][:, None] == own
    to_text, to_image = (np.argsort(-t, axis=1, kind="stable") for t in (table, table.T))
    hits = np.take_along_axis(is_own, to_text, 1), np.take_along_axis(is_own.T, to_image, 1)
    assert figures(retrieval(features)) == [[float(hit[:, :k].any(1).mean()) for k in RETRIEVED] for hit in hits]


def test_memory_grows_as_the_number_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.index.exact.cores", lambda: 1)

    def peak(pairs: int) -> int:
        features, _ = random_pairs(pairs, pairs)
        tracemalloc.start()
        retrieval(features)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(1500) < 6 * peak(300)


def test_flickr_agrees_with_search_and_with_numpy(data_dir: Path, tmp_path: Path) -> None:
    data = read_labelled(str(data_dir / "flickr8k" / "val.tar"), task="retrieval")
    features = embed_labelled(data, PixelEncoder(), None, BOTH)
    assert features.image is not None and features.text is not None
    images = features.image[::5]
    table = features.text.astype(np.float64) @ images.astype(np.float64).T  # (texts, images)
    order, own = np.argsort(-table, axis=1, kind="stable"), np.arange(len(table)) // 5
    reference = [float((order[:, :k] == own[:, None]).any(1).mean()) for k in RETRIEVED]
    assert len(table) == 5 * len(images) and figures(retrieval(features))[1] == reference
    build(tmp_path, about(dim=64), embed(data.items[::5], PixelEncoder(), needs=BOTH))
    found = Collection(tmp_path, "trips").nearest("images", features.text, 10).rows
    assert np.array_equal(found, order[:, :10])
    assert [float((found[:, :k] == own[:, None]).any(1).mean()) for k in RETRIEVED] == reference


def captioned(table: Path, name: str, captions: dict[str, list[str]]) -> str:
    """Pictures beside `table` with their captions, one a row, in a list, or in a shard's JSON or text."""
    path = table.parent / name
    if name.endswith(".csv"):
        write_table(path, [(p, text) for p, texts in captions.items() for text in texts], ("image", "caption"))
    elif name.endswith(".jsonl"):
        path.write_text("".join(json.dumps({"image": p, "captions": texts}) + "\n" for p, texts in captions.items()))
    else:
        members = {}
        for place, (picture, texts) in enumerate(captions.items()):
            side = json.dumps({"captions": texts}) if name == "json.tar" else "\n".join(texts) + "\n"
            members[f"{place}.png"] = (table.parent / picture).read_bytes()
            members[f"{place}.{name.split('.')[0]}"] = side.encode()
        write_shard(path, members)
    return str(path)


def test_every_caption_counts_and_a_picture_is_encoded_once(table: Path, fake_encoder: FakeEncoder) -> None:
    pictures = [f"images/{colour}-{n}.png" for n in range(9) for colour in ("red", "green", "blue")]
    captions = {p: [f"{p[7:10]} {n} {'very ' * n}".strip() for n in range(1 + i % 5)] for i, p in enumerate(pictures)}
    found = {}
    for name in ("rows.csv", "lists.jsonl", "json.tar", "txt.tar"):
        data = read_labelled(captioned(table, name, captions), task="retrieval")
        assert [item.text for item in data.items] == [text for texts in captions.values() for text in texts]
        before = fake_encoder.images_encoded
        found[name] = figures(retrieval(embed_labelled(data, fake_encoder, None, BOTH)))
        assert fake_encoder.images_encoded - before == len(pictures)
    assert all(each == found["rows.csv"] for each in found.values())


def test_a_row_with_many_captions_is_named_once(table: Path, fake_encoder: FakeEncoder) -> None:
    (table.parent / "bad.png").write_bytes(b"no picture")
    captions = {"images/red-0.png": ["red"] * 3, "bad.png": ["one", "two"]}
    data = read_labelled(captioned(table, "bad.jsonl", captions), task="retrieval")
    with pytest.raises(UsageError, match=r"2 rows cannot be read .*: line 2 \(bad.png\)$"):
        embed_labelled(data, fake_encoder, None, BOTH)


def test_other_tasks_take_one_caption(table: Path) -> None:
    source = captioned(table, "some.jsonl", {"images/red-0.png": ["one", "two"]})
    (item,) = read_items([source])
    assert (item.text, item.captions) == ("one", ("one", "two"))


def test_both_commands_agree_on_real_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny, store = load_encoder("tiny"), str(tmp_path / "store")
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *arguments, **options: tiny)
    texts = {
        str(path): [caption, f"{label}, photographed", f"a drawing of {label}"]
        for _, package, file, caption, label in PHOTOS
        if (path := installed(package, file))
    }
    table = str(write_table(tmp_path / "t.csv", [(p, t) for p in texts for t in texts[p]], ("image", "text")))
    assert len(texts) > RETRIEVED[-1]
    assert run(["evaluate", table, "--task", "retrieval", "--store", store, "-q"]) == 0
    evaluated = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert run(["index", "build", table, "--store", store, "-q"]) == 0

    def found(*query: str) -> list[dict[str, Any]]:
        assert run(["search", *query, "--store", store, "--format", "jsonl", "-q"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    by_photo = [[hit["text"] in texts[path] for hit in found("--like", path, "--in", "texts")] for path in texts]
    by_text = [[hit["id"] == path for hit in found(text)] for path in texts for text in texts[path]]
    for hits, line in ((by_photo, evaluated[0]), (by_text, evaluated[1])):
        assert [f"{100 * np.mean([any(row[:k]) for row in hits]):.1f}" for k in RETRIEVED] == line[3::2]
