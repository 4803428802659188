"""Heads and their reports: markup that must stay text, vectors that must not be mixed, heads of other models."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder, draw, encode
from labelled_photos import write_model, write_pictures, write_table
from small_models import HALF, SMALL, save_model

from cmprompt import embed, load_encoder, report
from cmprompt.cli.app import run
from cmprompt.heads.fit import training_data
from cmprompt.heads.trial import run_trial, split_rows
from cmprompt.store import Store
from cmprompt.types import Features, Item

EVIL = '<script>document.title="ran"</script><img src=x onerror="document.title=1">'
TAGS = set("html head meta title style body h1 h2 p ul li table tr th td figure figcaption img br svg polyline".split())
TAGS |= {"circle", "div", "text"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Page(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


@pytest.fixture(scope="module", params=["classes", "multi_label", "regression"])
def page(request: pytest.FixtureRequest) -> str:
    """A report in which every name is markup."""
    dice = np.random.default_rng(0)
    x = dice.normal(size=(60, 4)).astype(np.float32)
    marks = (dice.random((60, 2)) < 0.5).astype(np.float32)
    targets = {
        "classes": np.array([EVIL, "other"])[marks[:, 0].astype(int)],
        "multi_label": marks,
        "regression": x[:, 0],
    }
    task = request.param
    labels = None if task == "regression" else (EVIL, "other")
    data = training_data(Features.of_images(x), targets[task], model_id=EVIL, labels=labels, task=task)
    trial = run_trial("linear", data, split_rows(data, 0.2))
    items = [Item(f"{EVIL}{number}.png", lambda: encode(draw())) for number in range(60)]
    return report.html(trial, labels or (), items, {"command": [EVIL], EVIL: EVIL})


def test_the_report_holds_nothing_that_runs_or_loads(page: str) -> None:
    found = Page(page)
    assert "img" in found.tags and found.tags <= TAGS
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/jpeg;base64,") for name, value in found.attributes if name == "src")
    assert "href" not in dict(found.attributes)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("content", policy) in found.attributes


def test_a_browser_runs_none_of_it(page: str, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    (tmp_path / "report.html").write_text(page, "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    address = (tmp_path / "report.html").as_uri()
    shown = subprocess.run([browser, *flags, address], capture_output=True, timeout=60, check=True).stdout.decode()
    assert "<title>linear: cmprompt finetune</title>" in shown and "<script" not in shown


def test_every_way_of_making_a_vector_has_a_key_of_its_own(tmp_path: Path) -> None:
    one, other = (save_model(tmp_path / name, SMALL, config) for name, config in (("one", None), ("other", HALF)))
    plain, bf16, exact = (
        load_encoder(f"local-dir:{one}", "cpu", precision, exact=is_exact)
        for precision, is_exact in (("fp32", False), ("bf16", False), ("fp32", True))
    )
    preprocessed = load_encoder(f"local-dir:{other}", "cpu", "fp32")
    assert len({encoder.store_key for encoder in (plain, bf16, exact, preprocessed)}) == 4
    assert plain.model_id == bf16.model_id == exact.model_id != preprocessed.model_id


def test_vectors_under_another_pixel_cap_are_not_taken_from_the_store(tmp_path: Path) -> None:
    encoder, store = FakeEncoder(), Store(tmp_path)
    for max_pixels in (None, 10_000, 10_000, None):
        list(embed([Item("a", lambda: encode(draw()))], encoder, store, max_pixels=max_pixels))
    assert encoder.images_encoded == 2


def test_a_head_serves_its_model_at_any_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "data.csv", write_pictures(tmp_path, each=12))
    where = ["--model", write_model(tmp_path / "model"), "--no-store"]
    assert run(["finetune", str(table), *where, "--precision", "fp32", "--force", "-o", str(tmp_path / "h")]) == 0
    capsys.readouterr()
    picture = str(tmp_path / "images/red-1.png")
    assert run(["classify", picture, "--head", str(tmp_path / "h"), "--no-store", "--precision", "bf16"]) == 0
    assert capsys.readouterr().out.split("\t")[1] == "red"
