"""Patch and word tokens: beside the pooled vector, in its space, kept under a key of their own, read by attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder, draw, encode
from labelled_photos import write_pictures, write_table
from small_models import SMALL, save_model

from cmprompt.cli.app import run
from cmprompt.embed import embed
from cmprompt.encoders import load_encoder
from cmprompt.encoders.timm import TimmImages
from cmprompt.errors import UsageError
from cmprompt.heads.io import load_head
from cmprompt.labelled.rows import Labelled
from cmprompt.labelled.vectors import embed_labelled
from cmprompt.store import Store
from cmprompt.types import Item

NEEDS = frozenset({"image", "text", "image_tokens", "text_tokens"})


def pixels(side: int, n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 3, side, side), np.uint8)


def test_a_transformer_gives_a_token_for_each_patch_beside_its_vector(model: str) -> None:
    encoder = load_encoder(model, "cpu", exact=True)
    rows = encoder.encode_image_tokens(pixels(32))  # type: ignore[attr-defined]
    assert rows.shape == (3, 1 + 16, 16)
    np.testing.assert_allclose(rows[:, 0], encoder.encode_images(pixels(32)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), 1, rtol=1e-5)
    assert np.abs(rows[:, 1] - rows[:, 2]).max() > 0.01


def test_a_texts_words_have_tokens_and_its_padding_none(model: str) -> None:
    encoder = load_encoder(model, "cpu", exact=True)
    rows = encoder.encode_text_tokens(["a red ball", "a"])  # type: ignore[attr-defined]
    np.testing.assert_allclose(rows[:, 0], encoder.encode_texts(["a red ball", "a"]), atol=1e-5)
    words = np.array(encoder.count_tokens(["a red ball", "a"])) - 1  # all but the start
    assert rows.shape == (2, 1 + 16, 16) and rows[:, 1:].any(-1).sum(1).tolist() == words.tolist()


def test_the_vector_of_a_convolution_is_the_mean_of_its_places(tmp_path: Path) -> None:
    import torch

    from cmprompt.encoders.tokens import image_tokens

    vision = {"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 96}
    encoder = load_encoder(f"local-dir:{save_model(tmp_path, {**SMALL, 'vision_cfg': vision})}", "cpu", "fp32")
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        rows = image_tokens(encoder.model.visual, x).numpy()  # type: ignore[attr-defined]
    assert rows.shape == (2, 1 + 9, 16)
    np.testing.assert_allclose(rows[:, 1:].mean(1), rows[:, 0], atol=1e-5)


def test_a_timm_networks_places_average_to_its_vector() -> None:
    encoder = TimmImages("test_resnet/random", "cpu")
    rows = encoder.encode_image_tokens(pixels(encoder.preprocess.size_px))
    np.testing.assert_allclose(rows[:, 0], encoder.encode_images(pixels(encoder.preprocess.size_px)), atol=1e-5)
    assert rows.shape[1] > 2 and rows.shape[2] == encoder.dim


def test_tokens_come_with_the_vectors_and_are_stored_under_their_own_key(model: str, tmp_path: Path) -> None:
    encoder, store = load_encoder(model, "cpu", "fp32"), Store(tmp_path / "store")
    picture = encode(draw("red"))
    data = Labelled("", (Item("a", lambda: picture, "a ball"), Item("b", None, "a brick")))
    first, second = (embed_labelled(data, encoder, store, NEEDS) for _ in range(2))
    assert first.image_tokens.shape == (2, 16, 16) and first.text_tokens.shape == (2, 16, 16)
    assert first.has_image.tolist() == [True, False] and not first.image_tokens[1].any()
    assert first.image_tokens.tobytes() == second.image_tokens.tobytes()
    assert any(key.store_key.endswith("/tokens/raw") for key in store.keys())


def test_an_encoder_without_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match="gives none"):
        embed([], FakeEncoder(), needs=NEEDS)


def test_attention_is_fitted_and_used_on_the_models_tokens(model: str, tmp_path: Path, capsys) -> None:
    rows = [
        (image, f"a {('ball', 'brick')[number // 3 % 2]}", colour)
        for number, (image, colour) in enumerate(write_pictures(tmp_path))
    ]
    table = str(write_table(tmp_path / "data.csv", rows, ("image", "text", "label")))
    held = write_table(tmp_path / "held.csv", rows[:6], ("image", "text", "label"))
    where = ["--store", str(tmp_path / "store"), "-q"]
    flags = ["--model", model, "--head", "attention", "--val", str(held), "--force", "-o", str(tmp_path / "a.head")]
    assert run(["finetune", table, *flags, *where]) == 0
    assert load_head(tmp_path / "a.head").needs == NEEDS
    capsys.readouterr()
    assert run(["evaluate", table, "--head", str(tmp_path / "a.head"), *where]) == 0
    assert float(capsys.readouterr().out.splitlines()[1].split()[1]) > 60
    picture = tmp_path / "images/red-3.png"
    (tmp_path / "new.csv").write_text(f"image,text\n{picture},a ball\n")
    assert run(["classify", str(tmp_path / "new.csv"), "--head", str(tmp_path / "a.head"), *where]) == 0
    assert capsys.readouterr().out.split("\t")[1] == "red"
