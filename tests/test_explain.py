"""Heat maps and the words behind a score."""

from __future__ import annotations

import base64
import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeEncoder, draw
from PIL import Image

from cmprompt.cli.app import run
from cmprompt.encoders import load_encoder
from cmprompt.errors import ItemError, UsageError
from cmprompt.explain.draw import GAP_PX, overlay, panels, seen_only
from cmprompt.explain.fused import pushes
from cmprompt.explain.gradients import heat_maps
from cmprompt.explain.heat import Heat, against_others, heat_of, seen_box
from cmprompt.explain.occlusion import occlusion_maps
from cmprompt.explain.page import to_html
from cmprompt.explain.words import contributions
from cmprompt.heads.zero_shot import zero_shot
from cmprompt.tasks.explain import _drawn, _label_vectors, explain, explain_text
from cmprompt.types import Array, Features, Preprocess

PROMPTS = {"red": ("red", "a red thing"), "blue": ("blue", "a blue thing"), "green": ("green",)}
TEXT_TOWER = {"context_length": 8, "vocab_size": 514, "width": 32, "heads": 2, "layers": 1}
TOWERS = {
    "vit": {"layers": 3, "width": 64, "head_width": 32, "patch_size": 16},
    "timm vit": {"timm_model_name": "test_vit2", "timm_pool": "map", "timm_proj": "none"},
    "timm conv": {"timm_model_name": "test_convnext", "timm_pool": "avg", "timm_proj": "linear"},
}

EVAS = {  # as EVA-01 and EVA-02 of timm and Meta's PE build them
    "eva 01": {},
    "eva 02": {"qkv_fused": False, "scale_attn_inner": True, "swiglu_mlp": True, "use_rot_pos_emb": True},
    "pe": {"attn_type": "rope", "use_rot_pos_emb": True, "global_pool": "map"},
    "grouped": {"attn_type": "rope", "qkv_fused": False, "num_kv_heads": 1},
}


def two_halves(left: str, right: str) -> Image.Image:
    picture = draw(left, (64, 64))
    picture.paste(draw(right, (32, 64)), (32, 0))
    return picture


@pytest.fixture
def half_red(tmp_path: Path) -> str:
    two_halves("red", "blue").save(tmp_path / "half.png")
    return str(tmp_path / "half.png")


def build(name: str) -> Any:
    import torch

    from cmprompt.encoders.towers import build

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own about its test models
        cfg = {"embed_dim": 64, "vision_cfg": {"image_size": 64, **TOWERS[name]}, "text_cfg": TEXT_TOWER}
        return build(cfg).eval().requires_grad_(False)


def build_eva(name: str) -> Any:
    """An image tower of open_clip's shape around a small one of timm's."""
    import torch
    from timm.models.eva import Eva

    torch.manual_seed(0)
    visual: Any = torch.nn.Module()
    visual.trunk = Eva(64, 16, num_classes=0, embed_dim=64, depth=3, num_heads=2, **EVAS[name])
    visual.head = torch.nn.Identity()
    for parameter in visual.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # biases too, which start at zero
    return visual.eval().requires_grad_(False)


def test_occlusion_finds_the_half_that_has_the_colour(fake_encoder: FakeEncoder) -> None:
    pixels = np.asarray(two_halves("red", "blue").resize((64, 64))).transpose(2, 0, 1)
    aims = against_others(fake_encoder.encode_texts(["red", "blue"]))
    red, blue = occlusion_maps(fake_encoder, pixels, aims)
    assert red[:, :4].mean() > red[:, 4:].mean()
    assert blue[:, :4].mean() < blue[:, 4:].mean()


def test_a_model_without_gradients_is_explained_by_occlusion(fake_encoder: FakeEncoder) -> None:
    weight = fake_encoder.encode_texts(["red", "blue"])
    heat = heat_of(fake_encoder, two_halves("red", "blue"), weight, ("red", "blue"))
    assert "occlusion" in heat.method
    assert heat.maps.min() == 0 and heat.maps.max() == 1
    with pytest.raises(UsageError, match="occlusion"):
        heat_of(fake_encoder, two_halves("red", "blue"), weight, ("red", "blue"), "gradients")
    with pytest.raises(UsageError, match="did you mean"):
        heat_of(fake_encoder, two_halves("red", "blue"), weight, ("red", "blue"), "gradient")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*TOWERS, "eva 01", "eva 02", "pe"])
def test_every_kind_of_tower_gives_a_map_for_each_aim(name: str) -> None:
    visual = build(name).visual if name in TOWERS else build_eva(name)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    aims = np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)
    preprocess = Preprocess(64, "shortest", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    found = heat_maps(visual, pixels, aims, preprocess)
    assert found is not None
    method, maps = found
    assert ("Grad-CAM" if "conv" in name else "LeGrad") in method
    assert maps.shape[0] == 2 and maps.shape[1] == maps.shape[2] >= 2
    assert maps.min() >= 0 and maps.max() > 0
    assert not np.allclose(maps[0], maps[1])


def test_attention_of_another_kind_gives_no_map() -> None:
    preprocess = Preprocess(64, "shortest", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    pixels, aims = np.zeros((3, 64, 64), np.uint8), np.eye(64, dtype=np.float32)
    assert heat_maps(build_eva("grouped"), pixels, aims, preprocess) is None


@pytest.mark.parametrize("name", ["eva 01", "eva 02", "pe"])
def test_the_slope_along_attention_is_what_autograd_says(name: str) -> None:
    import torch

    from cmprompt.explain.gradients import _hooked, _layer_heat, _TimmViT

    visual, weights = build_eva(name), []
    last = visual.trunk.blocks[-1].attn
    last.fused_attn = False  # so that its weights can be seen
    vit = _TimmViT(visual)
    with _hooked([last.attn_drop], lambda module, inputs, output: weights.append(output)):
        layer = vit.run(torch.rand(1, 3, 64, 64).requires_grad_())[-1]
    rows, aims = vit.finish(layer.tokens), torch.eye(64)[:1]
    score = torch.nn.functional.normalize(rows, dim=-1)[0, 0]
    (slope,) = torch.autograd.grad(score, weights, retain_graph=True)  # (1, heads, N, N)
    assert torch.allclose(_layer_heat(layer, rows, aims)[0], torch.relu(slope).mean((0, 1, 2)), rtol=1e-3, atol=1e-8)


def places_of_16_pixels(x: Any) -> Any:
    from torch.nn import functional

    from cmprompt.explain.gradients import _Maps

    places = functional.avg_pool2d(x, 16)
    return _Maps(places, places.mean((2, 3)), places)


def spot(row: int, column: int) -> Any:
    import torch

    x = torch.full((1, 3, 96, 96), 0.1)
    x[0, 0, row : row + 8, column : column + 8] = 1
    return x.requires_grad_()


@pytest.mark.parametrize("row", [32, 40])
@pytest.mark.parametrize("column", [48, 56])
def test_the_enlarged_picture_tells_in_which_half_of_a_place_a_thing_is(row: int, column: int) -> None:
    """A thing of 8 pixels: one map of the tower alone could not tell."""
    import torch

    from cmprompt.explain.gradients import _scaled_cam

    heat = _scaled_cam(places_of_16_pixels, spot(row, column), torch.eye(3)[:1])[0].detach().numpy()
    assert heat.shape == (12, 12)
    assert np.unravel_index(heat.argmax(), heat.shape) == (row // 8, column // 8)


def test_a_tower_of_one_size_keeps_the_map_of_that_size() -> None:
    import torch

    from cmprompt.explain.gradients import _mirrored_cam, _scaled_cam

    def tower(x: Any) -> Any:
        if x.shape[-1] != 96:
            raise RuntimeError("the size of tensor a must match")
        return places_of_16_pixels(x)

    plain = _mirrored_cam(tower, spot(32, 48), torch.eye(3)[:1])
    assert torch.allclose(_scaled_cam(tower, spot(32, 48), torch.eye(3)[:1]), plain / plain.amax())


def test_only_the_labels_that_are_shown_are_drawn_but_all_are_told_apart(fake_encoder: FakeEncoder) -> None:
    weight, labels = fake_encoder.encode_texts(["red", "blue", "green"]), ("red", "blue", "green")
    every = heat_of(fake_encoder, two_halves("red", "blue"), weight, labels)
    some = heat_of(fake_encoder, two_halves("red", "blue"), weight, labels, shown=np.array([2, 0]))
    assert some.labels == ("green", "red")
    np.testing.assert_array_equal(some.maps, every.maps[[2, 0]])


def test_what_the_model_does_not_see_is_pale_on_the_labels_panels() -> None:
    picture, heat = draw("blue", (96, 64)), np.zeros((1, 4, 4), np.float32)
    sheet = panels(picture, Heat(("cat",), heat, "m", (16, 0, 80, 64)), ["cat"])
    first, second = GAP_PX, 2 * GAP_PX + picture.width
    assert sheet.getpixel((first + 8, GAP_PX + 32)) == (0, 0, 255)  # the picture itself
    red, green, blue = sheet.getpixel((second + 8, GAP_PX + 32))  # type: ignore[misc]
    assert red == green > 150 and blue == 255
    assert sheet.getpixel((second + 48, GAP_PX + 32)) == (0, 0, 255)
    assert seen_only(picture, (0, -16, 96, 80)) is picture


def test_grad_cam_of_mean_pooling_is_what_each_place_adds() -> None:
    """With mean pooling and a linear projection the slope at every place is the aim seen through the projection."""
    import torch

    from cmprompt.explain.gradients import _grad_cam, _layer_cam, _slopes

    features = torch.rand(1, 4, 3, 3, requires_grad=True)
    aims = torch.eye(4)[:2]
    rows = features.mean((2, 3))
    found = [slope for (slope,) in _slopes(rows, aims, features)]
    unit = rows[0] / rows[0].norm()
    slopes = (torch.eye(4)[:2] - (unit[:2, None] * unit[None])) / rows[0].norm() / 9
    expected = torch.relu(torch.einsum("ck,khw->chw", slopes, features[0]))
    assert torch.allclose(torch.cat([_grad_cam(features, slope) for slope in found]), expected, atol=1e-6)
    upward = torch.einsum("ck,khw->chw", slopes.clamp(min=0), features[0])  # LayerCAM: only what a channel adds
    assert torch.allclose(torch.cat([_layer_cam(features, slope) for slope in found]), upward, atol=1e-6)


def test_a_convolutions_map_is_twice_as_fine_as_the_layer_before_its_last() -> None:
    visual = load_encoder("tiny", "cpu", "fp32").model.visual  # type: ignore[attr-defined]
    preprocess = Preprocess(96, "shortest", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    pixels = np.random.default_rng(0).integers(0, 255, (3, 96, 96)).astype(np.uint8)
    found = heat_maps(visual, pixels, np.eye(256, dtype=np.float32)[:2], preprocess)
    mirrored = heat_maps(visual, pixels[:, :, ::-1], np.eye(256, dtype=np.float32)[:2], preprocess)
    assert found is not None and mirrored is not None and found[1].shape == (2, 12, 12)
    np.testing.assert_allclose(found[1], mirrored[1][:, :, ::-1], rtol=1e-3, atol=1e-6)


def test_what_tells_a_label_from_the_others() -> None:
    assert against_others(np.eye(3, dtype=np.float32))[0].tolist() == [1.0, -0.5, -0.5]
    assert against_others(np.ones((1, 2), np.float32)).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("resize", "box"), [("squash", (0, 0, 80, 40)), ("shortest", (20, 0, 60, 40)), ("longest", (0, -20, 80, 60))]
)
def test_heat_lies_where_the_model_looks(resize: Any, box: tuple[float, ...]) -> None:
    preprocess = Preprocess(8, resize, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert seen_box((80, 40), preprocess) == box
    maps = np.ones((1, 2, 2), np.float32)
    full = Heat(("a",), maps, "test", seen_box((80, 40), preprocess)).on_picture(0, (80, 40))
    assert full.shape == (40, 80)
    assert full[:, 30:50].min() == 1
    assert (full[:, :19].max() == 0) == (resize == "shortest")


def test_cold_places_keep_their_colours_and_hot_ones_do_not() -> None:
    heat = np.zeros((64, 64), np.float32)
    heat[:, :32] = 1
    mixed = np.asarray(overlay(two_halves("red", "blue"), heat))
    assert (mixed[:, 40:] == (0, 0, 255)).all()
    assert (mixed[:, :30] != (255, 0, 0)).any()
    sheet = panels(draw("red", (640, 480)), Heat(("a",), heat[None], "m", (80, 0, 560, 480)), ["a  0.50"])
    assert sheet.width > 2 * 320


def test_the_score_is_seen_below_a_label_of_any_length(half_red: str, fake_encoder: FakeEncoder) -> None:
    weight, best = np.eye(8, dtype=np.float32)[:2], np.array([0, 1])
    labels = ("red " * 50, "blue " * 50)
    sheets = [
        _drawn(half_red, fake_encoder, weight, labels, best, np.array(scores), "occlusion")[0]
        for scores in ([0.8, 0.2], [0.7, 0.3])
    ]
    assert sheets[0] != sheets[1]


@pytest.mark.parametrize("pool", ["mean", "scores", "max"])
def test_contributions_add_up_to_the_cosine(fake_encoder: FakeEncoder, pool: Any) -> None:
    image = fake_encoder.encode_images(np.full((1, 3, 8, 8), 90, np.uint8))
    texts = [text for own in PROMPTS.values() for text in own]
    parts = contributions(image[0], PROMPTS, fake_encoder.encode_texts(texts), pool=pool)
    head = zero_shot(fake_encoder, PROMPTS, pool=pool)
    cosines = np.asarray(head.logits(Features.of_images(image))[0]) / fake_encoder.logit_scale
    sums = [sum(part.contribution for part in parts[label]) for label in head.labels]
    assert np.allclose(sums, cosines, atol=2e-3)  # the head's texts are rounded as the store keeps them
    assert [part.contribution for part in parts["red"]] == sorted(
        (part.contribution for part in parts["red"]), reverse=True
    )


def test_one_picture_explained(half_red: str, fake_encoder: FakeEncoder) -> None:
    found = explain(half_red, fake_encoder, PROMPTS, top_k="2")
    assert [row["label"] for row in found.rows] == ["red", "red", "blue", "blue"] or found.rows[0]["label"] == "blue"
    assert {row["label"] for row in found.rows} == {"red", "blue"}
    assert found.sheet is not None and found.method is not None
    assert found.sheet.width > 3 * 64
    assert {row["method"] for row in found.rows} == {found.method}
    plain = explain(half_red, fake_encoder, PROMPTS, draw=False)
    assert plain.sheet is None and "method" not in plain.rows[0]


def test_the_text_that_wins_under_max_is_what_is_drawn(fake_encoder: FakeEncoder) -> None:
    image = fake_encoder.encode_texts(["a red thing"])[0]
    best = _label_vectors(zero_shot(fake_encoder, PROMPTS, pool="max"), image)
    assert np.allclose(best, fake_encoder.encode_texts(["a red thing", "a blue thing", "green"]), atol=1e-3)
    mean = zero_shot(fake_encoder, PROMPTS)
    assert _label_vectors(mean, image) is mean.weight  # type: ignore[union-attr]


def test_the_best_label_below_speaks_for_a_level(half_red: str, fake_encoder: FakeEncoder) -> None:
    prompts = {"warm/red": ("red",), "warm/black": ("black",), "cold/green": ("green",)}
    found = explain(half_red, fake_encoder, prompts, level=1)
    assert [(row["label"], row["text"]) for row in found.rows] == [("warm", "red"), ("cold", "green")]
    scores = {row["label"]: row["score"] for row in explain(half_red, fake_encoder, prompts, draw=False).rows}
    assert found.rows[0]["score"] == pytest.approx(scores["warm/red"] + scores["warm/black"], abs=1e-5)


def test_a_picture_that_cannot_be_read_says_which(fake_encoder: FakeEncoder, tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=r"none\.png"):
        explain(str(tmp_path / "none.png"), fake_encoder, PROMPTS)


@pytest.mark.parametrize("top_k", ["0", "²", "many"])
def test_what_is_no_number_of_labels_is_refused(top_k: str, half_red: str, fake_encoder: FakeEncoder) -> None:
    with pytest.raises(UsageError, match="--top-k"):
        explain(half_red, fake_encoder, PROMPTS, top_k=top_k)


@pytest.mark.parametrize(("height", "kind"), [(60, "jpeg"), (66_000, "png")])
def test_a_page_has_the_picture_and_the_words_as_text(height: int, kind: str) -> None:
    sheet = draw("red", (4, height))
    row = {"label": "<b>", "score": 0.5, "cosine": 0.25, "contribution": 0.25, "text": "<script>alert(1)</script>"}
    page = to_html('a"<i>.jpg', sheet, "LeGrad", [row]).decode()
    assert "<script>" not in page and "<b>" not in page and "<i>" not in page
    shown = Image.open(io.BytesIO(base64.b64decode(page.partition(f"data:image/{kind};base64,")[2].partition('"')[0])))
    assert shown.size == sheet.size and np.abs(np.asarray(shown, int) - np.asarray(sheet, int)).max() < 8
    assert "LeGrad" in page
    assert "default-src 'none'" in page and "color-scheme:light dark" in page
    assert "caf\ufffd.jpg" in to_html("caf\udce9.jpg", sheet, "LeGrad", [row]).decode()


def test_the_command_writes_a_picture_or_a_page(
    half_red: str, fake_encoder: FakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    asked = ["explain", half_red, "--labels", "red,blue", "--no-store", "--format", "jsonl", "-o"]
    assert run([*asked, str(tmp_path / "why.png")]) == 0
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    assert run([*asked, str(tmp_path / "why.html")]) == 0
    assert "occlusion" in (tmp_path / "why.html").read_text() and "occlusion" in capsys.readouterr().err
    assert run([*asked, str(tmp_path / "why.jpg")]) == 2


@pytest.mark.parametrize("size", [(1, 20_000), (1000, 1), (3000, 9)])
@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
def test_a_thin_picture_is_drawn(
    size: tuple[int, int], resize: Any, fake_encoder: FakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_encoder, "preprocess", replace(fake_encoder.preprocess, resize=resize), raising=False)
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    draw("red", size).save(tmp_path / "thin.png")
    asked = ["explain", str(tmp_path / "thin.png"), "--labels", "red,blue", "--no-store", "-q", "-o"]
    assert run([*asked, str(tmp_path / "why.png")]) == 0
    assert run([*asked, str(tmp_path / "why.html")]) == 0


@pytest.mark.parametrize(
    ("size", "box", "pixel"), [((1, 320), (0, 159.6, 1, 159.7), 160), ((320, 1), (319.8, 0, 319.9, 1), 319)]
)
def test_the_heat_of_a_thin_picture_lies_on_one_pixel_of_it(size: tuple[int, int], box: Any, pixel: int) -> None:
    full = Heat(("a",), np.ones((1, 4, 4), np.float32), "test", box).on_picture(0, size)
    assert full.shape == size[::-1] and np.flatnonzero(full).tolist() == [pixel]


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        (["half.png", "--method", "gradient"], 2, "unknown --method 'gradient'; did you mean gradients?"),
        (["half.png", "-o", "half.png"], 4, "half.png is there already"),
        (["clip.mp4"], 2, "clip.mp4: explain takes one picture, not a clip"),
        (["."], 2, ".: explain takes one picture, not a folder"),
    ],
)
def test_what_cannot_be_explained_is_refused_before_a_model_is_read(
    asked: list[str], status: int, said: str, half_red: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(Path(half_red).parent)
    assert run(["explain", *asked, "--labels", "red,blue", "--model", "local-dir:nowhere"]) == status
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--top-k", "1"], "--top-k"),
        (["--method", "occlusion"], "--method"),
        (["--pool", "max"], "--pool"),
        (["--prompts", "photo", "--template", "a {}"], "--prompts, --template"),
        (["--language", "en"], "--language"),
    ],
)
def test_what_words_make_no_use_of_is_refused(flags: list[str], named: str, half_red: str, capsys: Any) -> None:
    assert run(["explain", half_red, "--head", "nowhere.head", "--text", "red", *flags]) == 2
    assert f"--head makes no use of {named};" in capsys.readouterr().err


def test_a_setting_that_words_make_no_use_of_may_lie_idle(
    half_red: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("CMPROMPT_PROMPTS", "photo")
    run(["explain", half_red, "--head", "nowhere.head", "--text", "red", "--top-k", "all"])
    shown = capsys.readouterr().err
    assert "nowhere.head" in shown and "makes no use" not in shown


def rising(array: Array) -> bool:
    return bool((np.diff(array) > 0).all())


def test_colours_rise_in_lightness() -> None:
    from cmprompt.explain.draw import COLOURS

    assert rising(COLOURS @ np.array([0.299, 0.587, 0.114]))


class SumHead:
    """Reads both sides: a label's logit is what both say of its colour."""

    labels, model_id, needs = ("red", "green", "blue"), "fake", frozenset({"image", "text"})

    def logits(self, features: Features) -> Array:
        assert features.image is not None and features.text is not None
        rows: Array = features.image[:, :3] + features.text[:, :3]
        return rows


def test_what_a_word_adds_to_all_labels_decides_nothing() -> None:
    whole, without = np.array([2.0, 1.0, 1.0]), np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    first, second = pushes(["red", "the"], ("red", "green", "blue"), whole, without)
    assert (first.label, round(first.contribution, 4)) == ("red", 0.6667)
    assert second.contribution == 0


def test_each_word_of_a_fused_text_names_the_label_it_pushes(half_red: str, fake_encoder: FakeEncoder) -> None:
    rows = explain_text(half_red, "green or blue", fake_encoder, SumHead())
    assert [row["word"] for row in rows] == ["green", "or", "blue"]
    assert (rows[0]["label"], rows[2]["label"]) == ("green", "blue")
    assert rows[0]["contribution"] > 10 * abs(rows[1]["contribution"])


def test_only_a_head_that_reads_texts_is_explained_by_words(half_red: str, fake_encoder: FakeEncoder) -> None:
    with pytest.raises(UsageError, match="reads texts"):
        explain_text(half_red, "a text", fake_encoder, zero_shot(fake_encoder, PROMPTS))
    with pytest.raises(UsageError, match="no words"):
        explain_text(half_red, " ", fake_encoder, SumHead())
    with pytest.raises(ItemError, match=r"none\.png"):
        explain_text(half_red.replace("half", "none"), "a text", fake_encoder, SumHead())
