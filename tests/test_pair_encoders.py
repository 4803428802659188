"""Encoders of one modality, and two of them as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder
from labelled_photos import write_model, write_pictures, write_table

from cmprompt import images as decoding
from cmprompt.cli.app import run
from cmprompt.encoders import load_encoder
from cmprompt.encoders.classic import ClassicImages, classic_images
from cmprompt.encoders.pair import PairEncoder, load_pair
from cmprompt.encoders.tfidf import TfidfTexts
from cmprompt.encoders.timm import TimmImages
from cmprompt.encoders.words import ClassicTexts
from cmprompt.errors import UnknownModel, UsageError
from cmprompt.heads.io import load_head, read_settings
from cmprompt.images import decode_path


def noise(side: int, n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 3, side, side), np.uint8)


def test_classic_images_are_unit_rows_that_tell_colours_and_edges_apart() -> None:
    encoder = ClassicImages()
    plain = np.zeros((2, 3, 96, 96), np.uint8)
    plain[0, 0], plain[1, 2] = 255, 255
    rows = encoder.encode_images(np.concatenate([plain, noise(96, 1)]))
    assert rows.shape == (3, encoder.dim) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert rows[0] @ rows[1] < 0.5


def test_classic_texts_share_words_not_order() -> None:
    rows = ClassicTexts().encode_texts(["a red apple", "apple, a RED", "some bread", ""])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert rows[0] @ rows[1] > 0.99 and rows[0] @ rows[2] < 0.1


def test_scripts_without_spaces_are_read_in_pairs_of_characters() -> None:
    rows = ClassicTexts().encode_texts(["红苹果好吃", "红苹果", "面包"])
    assert rows[0] @ rows[1] > 0.5 > rows[0] @ rows[2]


def test_stop_words_say_nothing() -> None:
    rows = ClassicTexts("en").encode_texts(["the apple", "apple"])
    np.testing.assert_allclose(rows[0], rows[1])


def test_stop_words_go_by_language() -> None:
    rows = ClassicTexts("de").encode_texts(["das Brot und der Käse", "Brot Käse", "the bread"])
    np.testing.assert_allclose(rows[0], rows[1])
    assert rows[2] @ ClassicTexts().encode_texts(["the bread"])[0] > 0.99
    with pytest.raises(UsageError, match="did you mean en"):
        ClassicTexts("eng")


def test_rare_words_are_as_loud_as_scikit_learn_has_them() -> None:
    from sklearn.feature_extraction.text import TfidfTransformer

    texts, unseen = ["the red ball", "the red brick", "the blue brick", ""], ["the the ball", "nothing known"]
    words = ClassicTexts()
    wanted = TfidfTransformer().fit(words.counts(texts)).transform(words.counts(unseen)).toarray()
    np.testing.assert_allclose(TfidfTexts().counted(texts).encode_texts(unseen), wanted, atol=1e-6)


def test_a_head_on_counted_words_finds_its_counts_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = write_pictures(tmp_path)
    rows = [(image, f"the {colour} thing no{place}", colour) for place, (image, colour) in enumerate(pictures)]
    table = write_table(tmp_path / "data.csv", rows, ("image", "text", "label"))
    flags = ["--image-encoder", "classic", "--text-encoder", "classic:tfidf", "--stop-words", "en", "--use", "text"]
    assert run(["finetune", str(table), *flags, "--no-store", "-q", "-o", str(tmp_path / "c.head")]) == 0
    settings = read_settings(tmp_path / "c.head")
    assert settings["record"]["model"] == "pair:classic|classic:tfidf-en" and set(settings["towers"]) == {"text"}
    capsys.readouterr()
    where = ["--head", str(tmp_path / "c.head"), "--no-store", "-q"]
    assert run(["evaluate", str(table), *where]) == 0
    assert float(capsys.readouterr().out.splitlines()[1].split()[1]) > 95
    encoder = load_encoder(f"tuned:{tmp_path / 'c.head'}")
    assert encoder.texts.idf[np.flatnonzero(encoder.texts.words.counts(["thing"])[0])] == 1  # is in every text


def test_sift_words_follow_shapes_not_colours() -> None:
    side = np.arange(128)
    disc = ((side[:, None] - 60) ** 2 + (side - 60) ** 2 < 900).astype(np.uint8)
    bars = np.tile((side // 9 % 2).astype(np.uint8), (128, 1)) * (side[:, None] > 40)
    pictures = np.stack([np.stack([shape * value for value in (200, 120, 60)]) for shape in (disc, bars)])
    encoder = classic_images("sift")
    rows = encoder.encode_images(np.concatenate([pictures, pictures[:1, ::-1], np.zeros((1, 3, 128, 128), np.uint8)]))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert rows[0] @ rows[2] > 0.9 > rows[0] @ rows[1] + 0.2
    assert rows[3].argmax() == encoder.dim - 1  # a picture of one colour has no words


def test_a_timm_network_is_its_averaged_feature_map() -> None:
    import timm
    import torch

    encoder = TimmImages("test_resnet/random", "cpu")
    pixels = noise(encoder.preprocess.size_px)
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=0).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.preprocess.mean, encoder.preprocess.std))
    with torch.inference_mode():
        wanted = model.forward_features((torch.from_numpy(pixels) / 255 - mean) / std).mean((2, 3)).numpy()
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode_images(pixels), wanted, atol=1e-5)


@pytest.mark.parametrize("method", ["encode_raw", "encode_images", "encode_image_tokens"])
def test_a_picture_has_the_same_bytes_alone_and_in_company(method: str) -> None:
    encoder = TimmImages("test_resnet/random", "cpu")
    pixels = noise(encoder.preprocess.size_px, 17)
    encode = getattr(encoder, method)
    together, alone = encode(pixels), np.concatenate([encode(pixels[i : i + 1]) for i in (0, 1, 16)])
    assert together[[0, 1, 16]].tobytes() == alone.tobytes()


def test_a_pair_hands_the_size_of_its_batches_to_a_timm_network() -> None:
    assert load_pair("pair:timm:test_resnet/random|classic", "cpu", load_encoder, 5).images.batch_size == 5


def test_an_unknown_network_is_named_with_its_neighbours() -> None:
    with pytest.raises(UnknownModel, match="did you mean vgg16"):
        TimmImages("vgg_16")
    with pytest.raises(UnknownModel, match=r"timm network ''"):
        load_pair("pair:timm|classic", "cpu", load_encoder)


def test_a_pair_pads_the_narrower_side() -> None:
    encoder = PairEncoder(FakeEncoder(), ClassicTexts())
    images, texts = encoder.encode_images(noise(8)), encoder.encode_texts(["red"])
    assert images.shape[1] == texts.shape[1] == encoder.dim == 1024
    assert not images[:, 8:].any()


def test_the_store_keeps_vectors_of_another_precision_apart() -> None:
    def key(precision: str) -> str:
        side = load_encoder("tiny", device="cpu", precision=precision)
        return PairEncoder(side, ClassicTexts()).store_key

    assert "/fp32/" in key("fp32") and "/bf16/" in key("bf16")
    assert PairEncoder(ClassicImages(), ClassicTexts()).store_key.endswith(f"/fp32/{decode_path(True)}/pair")


def test_the_store_keeps_vectors_of_another_device_or_decoder_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = PairEncoder(TimmImages("test_resnet/random", "cpu"), ClassicTexts())
    before = pair.store_key
    assert "/fp32/torch-cpu+fp32/" in before
    decoder = decode_path(True)
    monkeypatch.setattr(decoding, "DECODE_VERSION", "another")
    after = PairEncoder(pair.images, pair.texts).store_key
    assert after == before.replace(decoder, "another-exact") != before


def test_a_side_that_does_not_read_this_is_refused() -> None:
    with pytest.raises(UsageError, match="side"):
        load_pair("pair:classic|timm:vgg16", "cpu", lambda name: FakeEncoder())


def test_an_unknown_side_is_told_what_it_may_be() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'foo'.*on this side classic, timm:NAME go too"):
        load_pair("pair:foo|classic", "cpu", load_encoder)


def test_what_is_wrong_with_a_known_model_is_not_put_down_to_its_name() -> None:
    def refuse(name: str) -> FakeEncoder:
        raise UsageError("--precision fp16 needs a GPU")

    with pytest.raises(UsageError, match=r"^--precision fp16 needs a GPU$"):
        load_pair("pair:tiny|classic", "cpu", refuse)


def test_a_head_on_classic_features_finds_its_encoders_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(image, f"something {colour}", colour) for image, colour in write_pictures(tmp_path)]
    table = write_table(tmp_path / "data.csv", rows, ("image", "text", "label"))
    flags = ["--image-encoder", "classic", "--text-encoder", "classic", "--head", "linear", "--no-store"]
    assert run(["finetune", str(table), *flags[:2], "--stop-words", "en", "-o", str(tmp_path / "c.head")]) == 2
    flags += ["--stop-words", "en"]
    assert run(["finetune", str(table), *flags, "-o", str(tmp_path / "c.head"), "--force"]) == 0
    assert read_settings(tmp_path / "c.head")["record"]["model"] == "pair:classic|classic:en"
    assert load_head(tmp_path / "c.head").model_id.startswith("classic-hog")
    capsys.readouterr()
    picture = str(tmp_path / "images/blue-3.png")
    assert run(["classify", picture, "--head", str(tmp_path / "c.head"), "--no-store"]) == 0
    assert capsys.readouterr().out.split("\t")[1] == "blue"


def test_a_collection_finds_a_pair_or_a_trained_tower_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = write_pictures(tmp_path, each=4)
    rows = [(image, f"the {colour} thing", colour) for image, colour in pictures]
    table = write_table(tmp_path / "data.csv", rows, ("image", "text", "label"))
    write_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    fit = ["--image-encoder", "classic", "--text-encoder", "classic:tfidf", "--use", "text", "--no-store", "--force"]
    assert run(["finetune", str(table), *fit, "-q", "-o", "c.head"]) == 0
    named = ["--store", str(tmp_path / "store"), "-q", "--name"]
    for name, model in (("pair", "pair:local-dir:model|classic"), ("tuned", "tuned:c.head")):
        assert run(["index", "build", str(table), *named, name, "--model", model]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(["index", "update", *named, "pair"]) == run(["index", "update", *named, "tuned"]) == 0


def test_one_side_may_stay_the_models_own(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    rows = [(image, f"something {colour}", colour) for image, colour in write_pictures(tmp_path)]
    table = write_table(tmp_path / "data.csv", rows, ("image", "text", "label"))
    flags = ["--model", model, "--text-encoder", "classic", "--head", "linear", "--no-store", "--force"]
    assert run(["finetune", str(table), *flags, "-o", str(tmp_path / "c.head")]) == 0
    assert "+classic-words1024" in load_head(tmp_path / "c.head").model_id


def test_the_side_of_a_model_that_is_not_named_is_recorded_as_the_one_that_was_used(tmp_path: Path) -> None:
    rows = [(image, f"something {colour}", colour) for image, colour in write_pictures(tmp_path, each=4)]
    table = write_table(tmp_path / "data.csv", rows, ("image", "text", "label"))
    flags = ["--text-encoder", "classic", "--head", "linear", "--no-store", "--force", "-o", str(tmp_path / "c.head")]
    assert run(["finetune", str(table), *flags]) == 0
    assert read_settings(tmp_path / "c.head")["record"]["model"] == "pair:tiny|classic"


def test_a_pair_of_sides_without_threads_keeps_those_it_is_given() -> None:
    pair = load_encoder("pair:classic|classic", threads=1)
    assert isinstance(pair, PairEncoder) and pair.threads == pair.with_texts(ClassicTexts()).threads == 1


def test_a_pair_hands_its_options_to_the_models_own_side() -> None:
    notices: list[str] = []
    pair = load_encoder("pair:auto|classic", "cpu", "fp32", batch_size=5, notices=notices.append)
    assert isinstance(pair, PairEncoder) and pair.images.batch_size == pair.batch_size == 5
    assert any("using tiny" in notice for notice in notices)
