"""Loading models: what is read when, what is refused, and that rows do not depend on their company."""

from __future__ import annotations

import json
import shutil
import string
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import CLIP, HALF, SMALL, save_model

from cmprompt import load_encoder
from cmprompt.encoders import devices
from cmprompt.encoders.batches import Batched, unit
from cmprompt.encoders.open_clip import OpenClipEncoder
from cmprompt.encoders.tokenizer import ClipTokenizer
from cmprompt.encoders.torch import TorchTowers
from cmprompt.encoders.weights import (
    CONFIG,
    MANIFEST,
    HashMismatch,
    file_sha256,
    preprocess_of,
    read_folder,
    read_scalar,
)
from cmprompt.errors import ItemError, ModelError, UsageError
from cmprompt.hub import verify, write_manifest
from cmprompt.types import Array

WEIGHTS = "open_clip_model.safetensors"
TEXTS = ["a cat", "a photo of a dog", "", "rain over the grey harbour and a boat that leaves", "a cat"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture(scope="module")
def encoder(small: Path) -> OpenClipEncoder:
    return OpenClipEncoder(read_folder(small), device="cpu", precision="fp32")


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "copy"))


@pytest.fixture
def pixels() -> Array:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)


def edit(folder: Path, **changes: Any) -> Path:
    """Replace parts of the configuration."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))
    return folder


def test_attributes_cost_no_torch(small: Path) -> None:
    script = (
        "import sys; from cmprompt import load_encoder\n"
        f"e = load_encoder('local-dir:{small}', device='cpu')\n"
        "e.model_id, e.dim, e.logit_scale, e.preprocess, e.count_tokens(['a cat'])\n"
        "print(sorted({'torch', 'open_clip', 'openvino', 'huggingface_hub', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rows_have_length_one(encoder: OpenClipEncoder, pixels: Array) -> None:
    images, texts = encoder.encode_images(pixels), encoder.encode_texts(TEXTS)
    assert images.shape == (5, 16) and texts.shape == (5, 16) and images.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([images, texts]), axis=1), 1, atol=1e-6)


def test_nothing_in_nothing_out(encoder: OpenClipEncoder, pixels: Array) -> None:
    assert encoder.encode_images(pixels[:0]).shape == (0, 16)
    assert encoder.encode_texts([]).shape == (0, 16)


@pytest.mark.parametrize("way", [{"precision": "fp32"}, {"precision": "bf16"}, {"exact": True}])
def test_a_row_is_the_same_bytes_in_any_company(small: Path, pixels: Array, way: dict[str, Any]) -> None:
    encoder = load_encoder(f"local-dir:{small}", device="cpu", **way)
    together = encoder.encode_images(np.concatenate([pixels] * 7))
    assert all(np.array_equal(encoder.encode_images(pixels[i : i + 1])[0], together[30 + i]) for i in range(5))
    texts = encoder.encode_texts(TEXTS * 9)
    assert all(np.array_equal(encoder.encode_texts([text])[0], row) for text, row in zip(TEXTS, texts, strict=False))


def test_wrong_pixels_are_refused(encoder: OpenClipEncoder, pixels: Array) -> None:
    for wrong in (pixels.astype(np.float32), pixels[:, :, :16], pixels[0]):
        with pytest.raises(ValueError, match="expected"):
            encoder.encode_images(wrong)


def test_the_id_names_weights_and_configuration(small: Path, copy: Path) -> None:
    same, other = load_encoder(f"local-dir:{small}"), load_encoder(f"local-dir:{edit(copy, preprocess_cfg=HALF)}")
    assert load_encoder(f"local-dir:{small}", precision="bf16").model_id == same.model_id
    assert other.model_id != same.model_id


def test_the_id_names_the_files_of_a_tokenizer_and_a_text_tower_that_are_read(copy: Path) -> None:
    def ids(**text_cfg: str) -> set[str]:
        edit(copy, model_cfg=with_part("text_cfg", **text_cfg))
        found = set()
        for text in ("", "one", "two"):
            for name in ("tokenizer.json", "text_model/config.json"):
                (copy / name).parent.mkdir(exist_ok=True)
                (copy / name).write_text(text)
                found.add(read_folder(copy).config_digest)
        return found

    assert len(ids()) == 1
    assert len(ids(hf_tokenizer_name="words")) == 3
    assert len(ids(hf_tokenizer_name="words", hf_model_name="tower")) == 6


def test_the_store_key_names_everything_that_changes_a_vector(small: Path) -> None:
    ways: list[dict[str, Any]] = [{"precision": "fp32"}, {"precision": "bf16"}, {"exact": True}]
    assert len({load_encoder(f"local-dir:{small}", device="cpu", **way).store_key for way in ways}) == 3


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_of_every_dtype(tmp_path: Path, pixels: Array, dtype: str) -> None:
    folder = save_model(tmp_path / "model", SMALL, dtype=dtype)
    loaded = load_encoder(f"local-dir:{folder}", device="cpu", precision="fp32")
    assert loaded.logit_scale == pytest.approx(1 / 0.07, rel=0.02)
    np.testing.assert_allclose(np.linalg.norm(loaded.encode_images(pixels), axis=1), 1, atol=1e-6)


def test_bf16_agrees_with_fp32(small: Path, encoder: OpenClipEncoder, pixels: Array) -> None:
    fast = load_encoder(f"local-dir:{small}", device="cpu", precision="bf16")
    assert (fast.encode_images(pixels) * encoder.encode_images(pixels)).sum(1).min() > 0.99
    assert (fast.encode_texts(TEXTS) * encoder.encode_texts(TEXTS)).sum(1).min() > 0.99


def test_logit_numbers(small: Path) -> None:
    assert read_scalar(small / WEIGHTS, "logit_scale") == pytest.approx(np.log(1 / 0.07))
    assert read_scalar(small / WEIGHTS, "logit_bias") is None


def test_the_hash_follows_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"one")
    first = file_sha256(file)
    file.write_bytes(b"two")
    assert file_sha256(file) != first


def with_part(key: str, **changes: Any) -> dict[str, Any]:
    return {**SMALL, key: {**SMALL[key], **changes}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preprocess_cfg": {}}, "mean, std, interpolation, resize_mode"),
        ({"preprocess_cfg": {**HALF, "resize_mode": None}}, "resize_mode"),
        ({"preprocess_cfg": {**HALF, "resize_mode": "stretch"}}, "stretch"),
        ({"model_cfg": {**SMALL, "embed_dim": 8}}, "does not fit"),
        ({"model_cfg": with_part("vision_cfg", layers=1)}, "Unexpected key"),
        ({"model_cfg": with_part("vision_cfg", layers=3)}, "Missing key"),
        ({"model_cfg": with_part("vision_cfg", image_size=[32, 64])}, "not square"),
        ({"model_cfg": {**SMALL, "colour": "blue"}}, "cannot build"),
        ({"model_cfg": with_part("vision_cfg", image_size=0)}, "image_size 0"),
        ({"model_cfg": with_part("vision_cfg", image_size=-32)}, "image_size -32"),
        ({"model_cfg": with_part("vision_cfg", image_size="32")}, "image_size '32'"),
        ({"model_cfg": with_part("vision_cfg", image_size=[])}, "image_size"),
        ({"model_cfg": with_part("text_cfg", context_length="many")}, "context_length 'many'"),
        ({"model_cfg": with_part("text_cfg", vocab_size=0)}, "vocab_size 0"),
        ({"preprocess_cfg": [HALF]}, "preprocess_cfg"),
        ({"preprocess_cfg": {**HALF, "mean": [0.5, 0.5]}}, "mean"),
        ({"preprocess_cfg": {**HALF, "std": ["a", "b", "c"]}}, "std"),
        ({"preprocess_cfg": {**HALF, "mean": {"red": 1}}}, "mean"),
        ({"preprocess_cfg": {**HALF, "std": [10**400] * 3}}, "std"),
        ({"preprocess_cfg": {**HALF, "fill_color": "red"}}, "fill_color"),
    ],
)
def test_what_does_not_fit_is_refused(copy: Path, pixels: Array, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_encoder(f"local-dir:{edit(copy, **changes)}").encode_images(pixels)


def test_old_configurations_of_the_clip_family_are_complete() -> None:
    preprocess = preprocess_of({"mean": CLIP["mean"], "std": CLIP["std"]}, SMALL, "here")
    assert (preprocess.interpolation, preprocess.resize, preprocess.size_px) == ("bicubic", "shortest", 32)


def test_one_number_stands_for_all_three_colours(copy: Path) -> None:
    whole = read_folder(edit(copy, preprocess_cfg=HALF))
    assert read_folder(edit(copy, preprocess_cfg={**HALF, "mean": 0.5, "std": 0.5})).preprocess == whole.preprocess


@pytest.mark.parametrize("files", [[WEIGHTS], {WEIGHTS: None}, {WEIGHTS: {"size": 3}}, {WEIGHTS: {"sha256": 3}}])
def test_a_manifest_without_hashes_is_one_error(copy: Path, files: object) -> None:
    (copy / MANIFEST).write_text(json.dumps({"name": "mine", "files": files}))
    for read in (read_folder, lambda folder: [*verify(folder)]):
        with pytest.raises(ModelError, match=MANIFEST):
            read(copy)


def test_a_manifest_names_the_model_and_pins_its_weights(copy: Path) -> None:
    write_manifest(copy, "mine")
    assert load_encoder(f"local-dir:{copy}").model_id.startswith("mine@")
    data = bytearray((copy / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (copy / WEIGHTS).write_bytes(data)
    with pytest.raises(HashMismatch, match=WEIGHTS):
        load_encoder(f"local-dir:{copy}")
    assert json.loads((copy / MANIFEST).read_text())["name"] == "mine"


@pytest.mark.parametrize("name", ["ViT-B32", "no-such-model", "hf-hub:nobody"])
def test_unknown_models_are_usage_errors(name: str) -> None:
    with pytest.raises(UsageError):
        load_encoder(name)


def test_a_folder_that_is_not_there_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="no model folder"):
        load_encoder("local-dir:/no/such/folder")


def test_auto_takes_the_bundled_model_and_says_so(monkeypatch: pytest.MonkeyPatch, small: Path, tmp_path: Path) -> None:
    monkeypatch.setattr("cmprompt.encoders.TINY", small)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said: list[str] = []
    assert load_encoder("auto", notices=said.append).dim == 16
    assert len(said) == 1 and "cmprompt models pull ViT-B-32-256" in said[0]


@pytest.mark.parametrize(
    "options", [{"device": "gpu"}, {"precision": "fp8"}, {"precision": "fp16"}, {"precision": "bf16", "exact": True}]
)
def test_flags_that_make_no_sense_here(small: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        load_encoder(f"local-dir:{small}", **{"device": "cpu", **options})


def test_bf16_is_automatic_only_where_it_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, expected in ({"avx512f"}, "fp32"), ({"avx512_bf16"}, "bf16"), ({"amx_bf16"}, "bf16"):
        monkeypatch.setattr(devices, "cpu_flags", lambda flags=flags: frozenset(flags))
        assert devices.pick_precision("auto", "cpu", exact=False) == expected
        assert devices.pick_precision("auto", "cpu", exact=True) == "fp32"
        assert devices.pick_precision("auto", "cpu", exact=False, small=True) == "fp32"


def test_out_of_memory_halves_the_batch_and_goes_on() -> None:
    sizes: list[int] = []

    def run(part: Array) -> Array:
        sizes.append(len(part))
        if len(part) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return part * 2

    rows = np.arange(13.0).reshape(13, 1)
    batched = Batched(run, 16)
    np.testing.assert_array_equal(batched(rows), rows * 2)
    assert sizes == [16, 8, 4, *[2] * 7]
    batched(rows)
    assert sizes[10:] == [2] * 7  # what does not fit is not tried again


def test_out_of_memory_at_one_is_that_items_failure() -> None:
    def run(part: Array) -> Array:
        raise MemoryError

    with pytest.raises(ItemError) as caught:
        Batched(run, 4)(np.zeros((4, 1)))
    assert caught.value.status == "out_of_memory"


def test_other_failures_are_not_taken_for_it() -> None:
    def run(part: Array) -> Array:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        Batched(run, 4)(np.zeros((4, 1)))


def test_rows_without_a_direction_are_nan() -> None:
    rows = unit(np.array([[3, 4], [0, 0], [np.inf, 1], [np.nan, 1]], np.float32))
    np.testing.assert_allclose(rows[0], [0.6, 0.8], atol=1e-6)
    assert np.isnan(rows[1:]).all()


def test_overflow_in_low_precision_is_computed_again_in_fp32(
    tmp_path: Path, pixels: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = save_model(tmp_path / "model", SMALL)
    tensors = load_file(folder / WEIGHTS)
    tensors["visual.ln_post.weight"] /= 1e30
    tensors["visual.ln_post.bias"] /= 1e30
    tensors["visual.proj"][:, 0] = np.finfo(np.float32).max  # rounds up to infinity in bf16
    save_file(tensors, folder / WEIGHTS)
    monkeypatch.setattr("cmprompt.encoders.openvino.runs_here", lambda device, precision: False)  # it saturates
    fast = load_encoder(f"local-dir:{folder}", device="cpu", precision="bf16")
    exact = load_encoder(f"local-dir:{folder}", device="cpu", exact=True)
    np.testing.assert_array_equal(fast.encode_images(pixels), exact.encode_images(pixels))


def test_nan_weights_give_nan_rows(tmp_path: Path, pixels: Array) -> None:
    from safetensors.numpy import load_file, save_file

    folder = save_model(tmp_path / "model", SMALL)
    tensors = load_file(folder / WEIGHTS)
    tensors["visual.proj"][:] = np.nan
    save_file(tensors, folder / WEIGHTS)
    assert np.isnan(load_encoder(f"local-dir:{folder}", device="cpu").encode_images(pixels)).all()


def test_merges_are_cut_to_the_vocabulary() -> None:
    whole, cut = ClipTokenizer(), ClipTokenizer(vocab_size=1024)
    assert (cut.start, cut.end) == (1022, 1023)
    (ids,) = cut.batch(["an extraordinarily long word"]).tolist()
    assert max(ids) == 1023 and len(cut.encode("photographs")) > len(whole.encode("photographs"))


def test_tokens_are_counted_before_truncation() -> None:
    tokenizer = ClipTokenizer(context=8)
    assert tokenizer.count(["a cat", "a " * 100]) == [4, 102]
    row = tokenizer.batch(["a " * 100])[0]
    assert len(row) == 8 and row[-1] == tokenizer.end


def test_a_word_of_a_hundred_thousand_letters_takes_no_minute() -> None:
    word = "".join(np.random.default_rng(0).choice([*string.ascii_lowercase], 1 << 17))
    started = time.process_time()
    assert ClipTokenizer().count([word])[0] > 1 << 15
    assert time.process_time() - started < 15


def test_a_tokenizer_remembers_so_many_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.encoders.tokenizer.KEPT_WORDS", 8)
    texts = ["a cat on the mat <end_of_text>", "one two three four five six", "x" * 1000, "a cat"]
    tokenizer = ClipTokenizer()
    assert [tokenizer.encode(text) for text in texts] == [ClipTokenizer().encode(text) for text in texts]
    assert len(tokenizer._known) <= 8 and "x" * 1000 not in tokenizer._known


def test_a_hugging_face_tokenizer_names_its_extra(copy: Path) -> None:
    text_cfg = {**SMALL["text_cfg"], "hf_tokenizer_name": "someone/tokenizer"}
    encoder = load_encoder(f"local-dir:{edit(copy, model_cfg={**SMALL, 'text_cfg': text_cfg})}")
    with pytest.raises((UsageError, ModelError), match=r"multilingual|tokenizer"):
        encoder.encode_texts(["a cat"])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_gives_the_same_vectors(small: Path, pixels: Array, precision: str) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    fast = load_encoder(f"local-dir:{small}", device="cuda", precision=precision)
    exact = load_encoder(f"local-dir:{small}", device="cpu", exact=True)
    assert (fast.encode_images(pixels) * exact.encode_images(pixels)).sum(1).min() > 0.99
    assert (fast.encode_texts(TEXTS) * exact.encode_texts(TEXTS)).sum(1).min() > 0.99


def test_compiling_is_for_a_gpu(small: Path) -> None:
    for options in ({"device": "cpu"}, {"device": "cpu", "exact": True}):
        with pytest.raises(UsageError, match="--compile is for a GPU"):
            load_encoder(f"local-dir:{small}", compiled=True, **options)  # type: ignore[arg-type]


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch compiles through C++")
def test_the_compiled_tower_gives_the_same_vectors(small: Path, pixels: Array) -> None:
    from torch._dynamo.utils import counters

    checkpoint = read_folder(small)
    compiled = TorchTowers(checkpoint, "cpu", "fp32", compiled=True).images(pixels)
    assert counters["stats"]["unique_graphs"] >= 1
    assert np.abs(compiled - TorchTowers(checkpoint, "cpu", "fp32").images(pixels)).max() < 1e-4


@pytest.mark.gpu
def test_a_gpu_gives_the_same_vectors_compiled(small: Path, pixels: Array) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    plain, compiled = (load_encoder(f"local-dir:{small}", "cuda", compiled=value) for value in (False, True))
    assert plain.store_key != compiled.store_key
    assert (plain.encode_images(pixels) * compiled.encode_images(pixels)).sum(1).min() > 0.999
