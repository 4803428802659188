"""Under `exact`, everything equals open_clip within 1e-5: tokens, vectors, zero-shot weights, probabilities."""

from __future__ import annotations

import io
import string
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from small_models import CLIP, HALF, save_model

from cmprompt import load_encoder
from cmprompt.encoders.open_clip import OpenClipEncoder
from cmprompt.encoders.tokenizer import ClipTokenizer, clean_text
from cmprompt.encoders.towers import is_trimmable
from cmprompt.heads.zero_shot import zero_shot
from cmprompt.images import decode
from cmprompt.types import Array, Features

LABELS = ("cat", "espresso cup", "rocket_launch")
TEMPLATES = ("a photo of a {}.", "{}", "a very long description, with many words in it, that shows a {}!")
TEXTS = (
    "a photo of a cat",
    "",
    "Rain; over the_harbour & a boat\u2026",
    "\U0001f431 na\u00efve caf\u00e9",
    "word " * 90,
)
ZERO_ONE = {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear", "resize_mode": "shortest"}
SQUASH = {**HALF, "interpolation": "bilinear"}


def architecture(name: str, **text: Any) -> dict[str, Any]:
    """open_clip's own configuration, with changes to the text tower."""
    config = deepcopy(open_clip.get_model_config(name))
    config["text_cfg"] |= text
    return {**config, "text_cfg": {key: value for key, value in config["text_cfg"].items() if value is not None}}


# SigLIP's own vocabulary would have to be downloaded, so CLIP's stands in for it. Short text towers keep this quick.
CASES = {
    "ViT-B-32": (architecture("ViT-B-32"), CLIP),
    "SigLIP": (architecture("ViT-B-16-SigLIP", hf_tokenizer_name=None, vocab_size=49408, layers=2), HALF),
    "MobileCLIP-S1": (architecture("MobileCLIP-S1", layers=2), ZERO_ONE),
    "PE-Core-T-16-384": (architecture("PE-Core-T-16-384", layers=2), SQUASH),
}


class Pair(NamedTuple):
    """The same weights in both libraries."""

    ours: OpenClipEncoder
    model: Any
    transform: Any
    tokenizer: Any


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder: Path = tmp_path_factory.mktemp("model")
    name = f"local-dir:{save_model(folder, *CASES[request.param])}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    ours = load_encoder(name, device="cpu", exact=True)
    assert isinstance(ours, OpenClipEncoder)
    yield Pair(ours, model.eval(), transform, open_clip.get_tokenizer(name))
    (folder / "open_clip_model.safetensors").unlink()


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Upright RGB images of several shapes, smooth and noisy."""
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)) for _ in range(2)]
    images = [coarse[0].resize((640, 427), Image.Resampling.BICUBIC), coarse[1].resize((150, 400))]
    return [png(image) for image in (*images, Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)))]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def image_rows(pair: Pair, pictures: list[bytes]) -> Array:
    pixels = np.stack([decode(data, pair.ours.preprocess, exact=True).pixels for data in pictures])
    return pair.ours.encode_images(pixels)


def reference_input(pair: Pair, pictures: list[bytes]) -> torch.Tensor:
    return torch.stack([pair.transform(Image.open(io.BytesIO(data))) for data in pictures])


def test_tokens(pair: Pair) -> None:
    np.testing.assert_array_equal(pair.ours.tokenizer.batch(TEXTS), pair.tokenizer(list(TEXTS)).numpy())


@pytest.mark.parametrize("vocab_size", [1024, 49408])
def test_parts_of_words(vocab_size: int) -> None:
    ours, theirs, dice = ClipTokenizer(vocab_size), open_clip.SimpleTokenizer(), np.random.default_rng(0)
    theirs.bpe_ranks = dict(ours._ranks)
    for letters in ("a", "ah", "the", "aeiou\u00e9\u732b", string.ascii_lowercase):
        for length in (1, 2, 3, 30, 300):
            word = [theirs.byte_encoder[byte] for byte in "".join(dice.choice([*letters], length)).encode()]
            assert ours._merge(word) == theirs.bpe("".join(word)).split()


@torch.inference_mode()
def test_image_vectors(pair: Pair, pictures: list[bytes]) -> None:
    expected = pair.model.encode_image(reference_input(pair, pictures), normalize=True)
    assert np.abs(image_rows(pair, pictures) - expected.numpy()).max() <= 1e-5


@torch.inference_mode()
def test_text_vectors(pair: Pair) -> None:
    expected = pair.model.encode_text(pair.tokenizer(list(TEXTS)), normalize=True)
    assert np.abs(pair.ours.encode_texts(TEXTS) - expected.numpy()).max() <= 1e-5


def test_zero_shot_weights(pair: Pair) -> None:
    expected = open_clip.build_zero_shot_classifier(pair.model, pair.tokenizer, LABELS, TEMPLATES)
    prompts = {label: [template.format(label) for template in TEMPLATES] for label in LABELS}
    assert np.abs(zero_shot(pair.ours, prompts).weight - expected.numpy().T).max() <= 1e-5  # type: ignore[attr-defined]


@torch.inference_mode()
def test_probabilities(pair: Pair, pictures: list[bytes]) -> None:
    texts = pair.tokenizer([f"a {label}" for label in LABELS])
    expected, _ = pair.model.get_logits(reference_input(pair, pictures), texts)
    head = zero_shot(pair.ours, {label: [f"a {label}"] for label in LABELS})
    logits = torch.from_numpy(head.logits(Features.of_images(image_rows(pair, pictures))))
    assert (logits.softmax(1) - expected.softmax(1)).abs().max() <= 1e-5
    assert (logits.sigmoid() - expected.sigmoid()).abs().max() <= 1e-5


def test_the_context_is_trimmed_only_where_that_is_exact(pair: Pair) -> None:
    text_cfg = pair.ours.checkpoint.model_cfg["text_cfg"]
    tokens = pair.ours.tokenizer.batch(["a cat"])
    trimmed = int(pair.ours._lengths(tokens)[0]) < pair.ours.context_length
    assert trimmed == is_trimmable(text_cfg) == (not text_cfg.get("no_causal_mask", False))


@pytest.mark.parametrize("clean", ["lower", "canonicalize", "whitespace"])
def test_the_tokenizer_alone(clean: str) -> None:
    words = (
        "The_Quick  brown fox's &amp; <end_of_text> \u4f60\u597d 12345 \u0130stanbul \u00fc\u00f1\u00ee can't!!1 \t\n x"
    )
    theirs = open_clip.SimpleTokenizer(context_length=24, clean=clean)
    texts = [words, words.upper(), *words.split(" "), "supercalifragilistic" * 9]
    np.testing.assert_array_equal(ClipTokenizer(context=24, clean=clean).batch(texts), theirs(texts).numpy())


def test_text_that_needs_no_mending_is_left_as_open_clip_leaves_it() -> None:
    from open_clip.tokenizer import get_clean_fn

    dice = np.random.default_rng(0)
    letters = [chr(code) for code in range(32, 127) if chr(code) != "&"]
    texts = ["".join(dice.choice(letters, 40)) for _ in range(300)]
    for how in ("lower", "canonicalize", "whitespace"):
        assert [clean_text(text, how) for text in texts] == [get_clean_fn(how)(text) for text in texts]
