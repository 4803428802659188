"""The scikit-learn shaped class, and the real CLIP vectors through it."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder, draw, encode
from heads_data import blobs
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted

from cmprompt import PromptClassifier, fit, load_encoder
from cmprompt.cli.app import run
from cmprompt.encoders.embedding import Unlearned
from cmprompt.encoders.pair import PairEncoder
from cmprompt.errors import CmpromptError, ItemError, ModelError, OutputError, UsageError
from cmprompt.heads.io import columns_of, model_of, read_settings, save_head
from cmprompt.heads.max_pool import MaxPoolHead
from cmprompt.heads.zero_shot import zero_shot
from cmprompt.store import Store
from cmprompt.types import Array, Features, FileBytes, Item

COLOURS = ["red", "green", "blue"]


def classifier(**more) -> PromptClassifier:
    return PromptClassifier(**{"labels": COLOURS, "model": FakeEncoder(), "prompts": "{}", "store": False, **more})


def paths(folder: Path) -> list[str]:
    return [str(folder / f"{colour}.png") for colour in COLOURS]


def test_it_labels_files(colours: Path) -> None:
    assert classifier().predict(paths(colours)).tolist() == COLOURS
    assert classifier().predict([colours / "blue.png"]).tolist() == ["blue"]


@pytest.mark.parametrize(
    "x",
    [
        encode(draw("green")),
        draw("green"),
        draw((0, 128, 0, 255), mode="RGBA"),
        np.full((9, 7, 3), (0, 200, 0), np.uint8),
        Item("x", lambda: encode(draw("green"))),
    ],
)
def test_it_labels_whatever_holds_a_picture(x: object) -> None:
    assert classifier().predict([x]).tolist() == ["green"]


def test_it_labels_a_batch_of_arrays_and_vectors() -> None:
    batch = np.zeros((4, 9, 7, 3), np.uint8)
    batch[..., 2] = 255
    assert classifier().predict(batch).tolist() == ["blue"] * 4
    assert classifier().predict(3 * np.eye(8)[:3]).tolist() == COLOURS


def test_probabilities_add_up_in_the_order_of_classes(colours: Path) -> None:
    model = classifier()
    probabilities = model.predict_proba(paths(colours))
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert model.classes_[probabilities.argmax(1)].tolist() == COLOURS
    assert model.predict_proba(np.zeros((0, 8))).shape == (0, 3)


def test_it_may_say_none() -> None:
    dark = np.eye(8)[[7]]
    assert classifier(none=True, none_name="?").predict(dark).tolist() == ["?"]
    assert classifier().predict(dark)[0] in COLOURS


def test_it_is_a_scikit_learn_estimator(colours: Path) -> None:
    model = clone(classifier())
    check_is_fitted(model)
    assert model.score(paths(colours), COLOURS) == 1.0
    assert model.get_params()["labels"] == COLOURS
    assert model.set_params(labels=["blue", "red"]).labels == ["blue", "red"]


def test_a_parameter_counts_from_the_next_call_on() -> None:
    model = classifier()
    assert model.predict(np.eye(8)[[0]]).tolist() == ["red"]
    model.set_params(labels={"sky": ["blue"], "fire": ["red", "green"]})
    assert model.predict(np.eye(8)[:3]).tolist() == ["fire", "fire", "sky"]
    assert model.classes_.tolist() == ["fire", "sky"]
    assert isinstance(model.set_params(pool="max").head_, MaxPoolHead)
    model.set_params(pool="mean", labels=["red"], prompts=["{}", "green {}"])
    assert model.head_.weight[0, 1] > 0.1 > model.set_params(prompts="{}").head_.weight[0, 1]
    assert model.set_params(model=FakeEncoder("other")).head_.model_id == "other"


def test_another_head_or_store_counts_from_the_next_call_on(tmp_path: Path) -> None:
    model = classifier(store=tmp_path / "one")
    for store in ("one", "one", "two"):
        model.set_params(store=tmp_path / store).predict([draw("red")])
    assert model.encoder_.images_encoded == 2
    model.set_params(labels=None, head=zero_shot(model.encoder_, {"b": ["blue"], "r": ["red"]}))
    assert model.predict(np.eye(8)[[0]]).tolist() == ["r"]
    assert model.set_params(labels=COLOURS, head=None).predict(np.eye(8)[[0]]).tolist() == ["red"]


def test_another_name_loads_another_model(model: str) -> None:
    named = PromptClassifier(COLOURS, model="tiny", store=False)
    first = named.encoder_.model_id
    assert named.set_params(model=model).encoder_.model_id != first
    assert named.set_params(precision="fp32").encoder_ is named.encoder_


@pytest.mark.parametrize("fitted", [False, True], ids=["zero-shot", "fitted"])
def test_what_is_saved_answers_as_before_here_and_on_the_command_line(
    fitted: bool, model: str, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, pictures = PromptClassifier(COLOURS, model=model, store=False), sorted(map(str, colours.iterdir()))
    if fitted:
        made.fit(pictures * 3, ["blue", "green", "red"] * len(pictures))
    made.save(tmp_path / "a.head")
    again = PromptClassifier(head=tmp_path / "a.head", store=False)
    assert again.classes_.tolist() == made.classes_.tolist()
    np.testing.assert_allclose(again.predict_proba(pictures), made.predict_proba(pictures), atol=1e-6)
    assert run(["classify", *pictures, "--head", str(tmp_path / "a.head"), "--no-store"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[1] for row in rows] == made.predict(pictures).tolist()
    with pytest.raises(OutputError, match="exists already"):
        made.save(tmp_path / "a.head")


@pytest.mark.parametrize(("task", "gives"), [("multi_label", "several labels at once"), ("regression", "numbers")])
def test_a_head_that_does_not_choose_one_label_is_not_taken_for_one(task: str, gives: str, tmp_path: Path) -> None:
    x, y = Features.of_images(np.eye(8)[np.arange(30) % 3]), np.eye(3)[np.arange(30) % 3]
    targets = {"labels": COLOURS, "targets": y} if task == "multi_label" else {"targets": y[:, 0]}
    head = fit("linear", x, model_id="fake", task=task, **targets)
    save_head(head, tmp_path / "a.head", {"multi_label": task == "multi_label"})
    with pytest.raises(UsageError, match=f"a.head' gives {gives}"):
        classifier(labels=None, head=tmp_path / "a.head").predict(np.eye(8))


def test_a_head_that_is_saved_again_still_knows_its_columns(tmp_path: Path) -> None:
    x = Features.of_images(np.eye(8)[np.arange(30) % 3])
    source = {"image_col": "photo", "text_col": "title", "target_col": "colour"}
    save_head(fit("linear", x, COLOURS * 10, model_id="fake"), tmp_path / "a.head", {"source": source})
    classifier(labels=None, head=tmp_path / "a.head").save(tmp_path / "b.head")
    assert columns_of(tmp_path / "b.head") == source


def test_a_fit_in_place_of_a_saved_head_is_saved_with_its_model(model: str, colours: Path, tmp_path: Path) -> None:
    PromptClassifier(COLOURS, model=model, store=False).save(tmp_path / "a.head")
    again = PromptClassifier(head=tmp_path / "a.head", store=False)
    again.fit(paths(colours) * 3, COLOURS * 3).save(tmp_path / "b.head")
    assert read_settings(tmp_path / "b.head")["record"] == {"model": model_of(tmp_path / "a.head")}
    assert PromptClassifier(head=tmp_path / "b.head", store=False).predict(paths(colours)).tolist() == COLOURS


def test_one_record_for_two_fits_leaves_both_calibrated() -> None:
    record: dict[str, object] = {}
    for seed in (0, 1):
        features, names, _ = blobs(120, noise=1.2, seed=seed)
        made = PromptClassifier(model=None).fit(features.image, names, record=record).predict_proba(features.image)
        alone = PromptClassifier(model=None).fit(features.image, names).predict_proba(features.image)
        assert np.array_equal(made, alone) and "temperature" in record


def test_the_scores_of_a_fit_are_calibrated() -> None:
    features, names, _ = blobs(240, noise=1.2)
    held, truth = blobs(2000, noise=1.2, seed=1)[:2]
    losses = []
    for calibrated in (True, False):
        model = PromptClassifier(model=None).fit(features.image, names, calibrated=calibrated)
        losses.append(log_loss(truth, model.predict_proba(held.image), labels=model.classes_))
    assert losses[0] < losses[1]


@pytest.mark.parametrize("more", [{"labels": ["red"]}, {"none": True, "none_name": "red"}])
def test_what_would_tell_nothing_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"one label only|could not be told"):
        classifier(**more).predict([draw("red")])


def test_a_fitted_head_stays_until_the_next_fit() -> None:
    x, swapped = np.eye(8)[np.arange(30) % 3], np.array(["blue", "red", "green"] * 10)
    model = classifier().fit(x, swapped)
    model.set_params(labels=["red", "blue"], pool="max", none_name="?", device="cpu")
    assert model.predict(x).tolist() == swapped.tolist()
    with pytest.raises(ModelError, match="fitted on fake, and this model is other; call fit again"):
        model.set_params(model=FakeEncoder("other")).predict(x)
    assert model.set_params(pool="mean").fit(x[:2], ["blue", "red"]).classes_.tolist() == ["blue", "red"]


def test_labels_may_be_an_array() -> None:
    model = classifier(labels=np.array(COLOURS))
    assert model.predict(np.eye(8)[:3]).tolist() == COLOURS
    assert model.fit(np.eye(8)[np.arange(12) % 3], COLOURS * 4).classes_.tolist() == sorted(COLOURS)
    with pytest.raises(UsageError, match="no labels"):
        classifier(labels=np.array([])).predict(np.eye(8))


def test_labels_may_have_phrases(colours: Path) -> None:
    model = classifier(labels={"warm": ["red"], "cold": ["blue", "green"]})
    assert model.predict(paths(colours)).tolist() == ["warm", "cold", "cold"]


def test_labels_may_have_thresholds() -> None:
    labels = {"red": {"threshold": "cos:0.9"}, "blue": {}}
    model = classifier(labels=labels, none_name="?")
    red, pale, blue = np.eye(8)[0], np.eye(8)[0] + 2 * np.eye(8)[7], np.eye(8)[2]
    assert model.predict(np.array([red, pale, blue])).tolist() == ["red", "?", "blue"]
    fitted = model.fit(np.array([red, blue] * 8), ["red", "blue"] * 8)
    assert set(fitted.predict(np.array([red, pale, blue]))) <= {"red", "blue"}


def test_a_store_spares_the_second_run(colours: Path, tmp_path: Path) -> None:
    first, second = FakeEncoder(), FakeEncoder()
    classifier(model=first, store=tmp_path / "store").predict(paths(colours))
    classifier(model=second, store=tmp_path / "store").predict(paths(colours))
    assert (first.images_encoded, second.images_encoded) == (3, 0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda used: pickle.loads(pickle.dumps(used))])
def test_a_used_classifier_can_be_copied(tmp_path: Path, copied: Callable[[object], PromptClassifier]) -> None:
    pictures, swapped = [draw(colour) for colour in COLOURS] * 4, ["blue", "red", "green"] * 4
    model = PromptClassifier(COLOURS, model="tiny", store=tmp_path / "store")
    assert copied(model).predict(pictures[:3]).tolist() == model.predict(pictures[:3]).tolist()
    assert model.fit(pictures, swapped).predict(pictures).tolist() == swapped
    assert copied(model).predict(pictures).tolist() == swapped
    kept = copied(classifier(store=Store(tmp_path / "store")))
    assert kept.predict(pictures[:3]).tolist() == COLOURS


def test_clones_share_a_model_and_a_store_that_were_given(tmp_path: Path) -> None:
    model = PromptClassifier(COLOURS, model=load_encoder("tiny"), store=Store(tmp_path / "store"))
    model.predict([draw("red")])
    assert (clone(model).model, clone(model).store) == (model.model, model.store)
    assert cross_val_score(model, [draw(colour) for colour in COLOURS] * 4, COLOURS * 4, cv=2).tolist() == [1.0, 1.0]


def test_a_head_may_be_given(colours: Path) -> None:
    head = zero_shot(FakeEncoder(), {"sky": ["blue"], "fire": ["red"]})
    assert classifier(labels=None, head=head).predict(paths(colours))[[0, 2]].tolist() == ["fire", "sky"]
    with pytest.raises(ModelError, match="other"):
        classifier(labels=None, head=zero_shot(FakeEncoder("other"), {"a": ["red"]})).predict(paths(colours))
    with pytest.raises(UsageError, match="head 'LinearHead' brings its own labels; leave labels out"):
        classifier(head=head).predict(paths(colours))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (["/nowhere.jpg"], ItemError, "/nowhere.jpg: missing"),
        ([b"no picture"], ItemError, r"X\[0\]: unreadable"),
        ([3], UsageError, r"X\[0\] is one int; give paths"),
        ([draw("red"), np.zeros((0, 5, 3), np.uint8)], ItemError, r"X\[1\]: unreadable: a picture of 5 x 0 pixels"),
        ([draw("red", (0, 5))], ItemError, r"X\[0\]: unreadable: a picture of 0 x 5 pixels"),
        (np.zeros((2, 9)), UsageError, "vectors of 9 numbers; this model's have 8"),
        (np.zeros((2, 8)), CmpromptError, "zero"),
    ],
)
def test_nonsense_says_what_and_where(x: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        classifier().predict(x)


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        ("a.jpg", "one str"),
        (b"GIF", "one bytes"),
        (Path("a.jpg"), "one .*Path"),
        (draw("red"), "one Image"),
        (np.zeros((9, 7, 3), np.uint8), r"an array \(9, 7, 3\) of uint8"),
        (Item("x", None), "one Item"),
        (None, "one NoneType"),
    ],
)
def test_one_picture_alone_is_no_list(x: object, kind: str) -> None:
    for ask in (classifier().predict, classifier().predict_proba, lambda x: classifier().fit(x, ["red"])):
        with pytest.raises(UsageError, match=f"X is {kind}; give a list of paths or pictures"):
            ask(x)


def test_many_vectors_are_labelled_as_one_by_one() -> None:
    x = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float16)
    model = classifier()
    assert model.predict(x).tolist() == [model.classes_[row.argmax()] for row in model.predict_proba(x)]
    x[577] = np.nan
    with pytest.raises(CmpromptError, match="vector 577 is zero or not a number"):
        model.predict(x)


def test_it_wants_labels_or_a_head() -> None:
    with pytest.raises(UsageError, match="no labels"):
        classifier(labels=None).predict(np.eye(8))
    with pytest.raises(UsageError, match="call fit first"):
        classifier(head="linear").predict(np.eye(8))


def test_fit_learns_what_the_text_gets_wrong() -> None:
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(np.eye(8)[np.repeat([0, 1, 2], 20)], 0.05))
    swapped = np.repeat(["blue", "red", "green"], 20)
    model = classifier()
    assert model.score(x, swapped) == 0
    assert model.fit(x, swapped) is model
    assert model.score(x, swapped) > 0.9
    assert set(model.classes_) == set(COLOURS)


def test_fit_needs_no_labels_and_reads_files(colours: Path) -> None:
    model = classifier(labels=None).fit(paths(colours) * 4, COLOURS * 4)
    assert model.predict(paths(colours)).tolist() == COLOURS
    with pytest.raises(UsageError, match="one target for each image"):
        model.fit(paths(colours), COLOURS[:2])


def captioned(each: int = 8) -> tuple[list[Item], list[str]]:
    """Pictures of one colour with a text of one word: the label is the word where the picture is red, else "other"."""
    red, blue = (encode(draw(colour)) for colour in ("red", "blue"))
    kinds = [(red, "left", "left"), (red, "right", "right"), (blue, "left", "other"), (blue, "right", "other")]
    rows = kinds * each
    items = [Item(str(place), lambda own=picture: own, text) for place, (picture, text, _) in enumerate(rows)]
    return items, [label for _, _, label in rows]


def test_fit_gives_attention_the_tokens_it_reads(model: str, tmp_path: Path) -> None:
    items, names = captioned()
    fitted = PromptClassifier(model=model, head="attention", store=tmp_path / "store")
    fitted.fit(items, names, epochs=40, rate=1e-2, least_steps=0)
    assert fitted.head_.needs == {"image", "text", "image_tokens", "text_tokens"}
    assert fitted.score(items, names) == 1.0
    with pytest.raises(UsageError, match="image tokens"):
        fitted.fit(np.eye(16)[:4], ["a", "b"] * 2)


@pytest.mark.parametrize("labels", [None, ["right", "left"]])
def test_fit_gives_an_embedding_the_texts_it_learns_from(labels: list[str] | None) -> None:
    items, _ = captioned()
    names = [item.text or "" for item in items]
    encoder = PairEncoder(FakeEncoder(), Unlearned("pooled"))
    fitted = PromptClassifier(labels, model=encoder, head="concat", store=False)
    for _ in range(2):  # again from the embedding that is not learned yet
        fitted.fit(items, names, epochs=12, batch=8, rate=3e-3, least_steps=0)
        assert fitted.classes_.tolist() == ["left", "right"]
        assert fitted.encoder_.model_id == fitted.head_.model_id != encoder.model_id
        assert fitted.score(items, names) == 1.0


@pytest.mark.parametrize("labels", [None, ["10", "9", "8", "7"]])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_fit_on_pictures_keeps_the_type_of_its_targets(labels: list[str] | None, head: str) -> None:
    pictures, numbers = [draw(colour) for colour in COLOURS] * 4, [8, 9, 10] * 4
    model = classifier(labels=labels, head=head).fit(pictures, numbers)
    assert model.classes_.tolist() == ([7, 8, 9, 10] if labels else [8, 9, 10])
    assert model.predict(pictures).tolist() == numbers
    assert model.score(pictures, numbers) == 1.0
    assert model.predict(np.zeros((0, 8))).dtype == model.classes_.dtype
    truths = [number == 9 for number in numbers]
    assert model.set_params(labels=None).fit(pictures, truths).predict(pictures).tolist() == truths


def test_none_of_these_may_stand_among_numbers(model: str) -> None:
    pictures = [draw("red"), draw("blue")]
    fitted = PromptClassifier(model=model, head="coop", none=True, none_name="?", store=False)
    fitted.fit(pictures * 2, [1, 2] * 2, epochs=1)
    rows = np.concatenate([fitted.head_.weight, -fitted.head_.weight.sum(0, keepdims=True)])
    assert fitted.predict(rows).tolist() == [1, 2, "?"]


def test_targets_are_of_one_type_that_the_labels_are_of() -> None:
    with pytest.raises(UsageError, match="targets of more than one type"):
        classifier().fit(np.eye(8)[:2], [None, "red"])
    with pytest.raises(UsageError, match="label 'cat' is no number"):
        classifier(labels=["1", "2", "cat"]).fit(np.eye(8)[:2], [1, 2])


@pytest.mark.parametrize("task", ["regression", "multi_label"])
def test_it_fits_classes_alone(task: str) -> None:
    for model in (classifier(), PromptClassifier(model=None)):
        with pytest.raises(UsageError, match=rf"task='{task}': a classifier .* cmprompt\.fit fits the others"):
            model.fit(np.eye(8)[:4], [1.0, 2.0, 3.0, 4.0], task=task)


def test_a_target_with_spaces_is_named() -> None:
    with pytest.raises(UsageError, match="target ' cat' has spaces around it"):
        classifier(labels=None).fit(np.eye(8)[:2], [" cat", "dog"])


def test_cross_validation_keeps_numbers() -> None:
    x, numbers = np.eye(8)[np.arange(30) % 3], np.arange(30) % 3
    assert cross_val_score(classifier(labels=None), x, numbers, cv=3).tolist() == [1.0] * 3


@pytest.mark.parametrize("scoring", ["roc_auc", "neg_log_loss"])
@pytest.mark.parametrize("labels", [["red", "blue"], ["blue", "red"]])
def test_scikit_learns_scorers_know_which_column_is_whose(labels: list[str], scoring: str) -> None:
    x, names = np.eye(8)[np.arange(20) % 2 * 2], np.array(["red", "blue"] * 10)
    scores = cross_val_score(classifier(labels=labels), x, names, cv=2, scoring=scoring)
    assert scores.min() >= (1.0 if scoring == "roc_auc" else -0.1)


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("labels", [None, ["red"]])
def test_one_class_is_refused(head: str, labels: list[str] | None) -> None:
    with pytest.raises(ValueError, match="only one class, 'red'"):
        classifier(labels=labels, head=head).fit([draw("red")] * 4, ["red"] * 4)
    with pytest.raises(UsageError, match="at least two labels"):
        fit("linear", Features.of_images(np.eye(8)[:4]), ["red"] * 4, labels=["red"])


CIFAR = ("airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "boat", "truck")


class Replay:
    """An encoder that knows the stored CLIP vectors of 500 pictures and of "a NAME"."""

    model_id = store_key = "clip-vitb32-replay"
    dim = 512
    logit_scale = 100.0
    logit_bias = None
    context_length = 77
    exact = True
    preprocess = FakeEncoder.preprocess.__class__(32, "shortest", "bicubic", (0.0,) * 3, (1.0,) * 3)

    def __init__(self, folder: Path) -> None:
        images = np.load(folder / "cifar10-test-first500.npz")
        texts = np.load(folder / "text-embeddings.npz")
        self.pictures, self.y = images["images"], images["labels"]
        self._images = dict(zip((p.tobytes() for p in self.pictures), images["image_embeddings"], strict=True))
        self._texts = {f"a {name}": row for name, row in zip(texts["names"], texts["a_name"], strict=True)}

    def encode_images(self, pixels: Array) -> Array:
        return np.stack([self._images[p.transpose(1, 2, 0).tobytes()] for p in pixels])

    def encode_texts(self, texts: Sequence[str]) -> Array:
        rows = np.stack([self._texts[text] for text in texts]).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 2 for text in texts]


@pytest.fixture(scope="module")
def replay(data_dir: Path) -> Replay:
    return Replay(data_dir / "clip-vitb32-replay")


def test_real_clip_vectors_label_cifar10(replay: Replay) -> None:
    model = PromptClassifier(CIFAR, model=replay, prompts="a {}", store=False)
    wanted = [CIFAR[i] for i in replay.y]
    assert model.score(replay.pictures, wanted) == pytest.approx(0.904)


def test_real_clip_vectors_label_cifar10_from_files(replay: Replay, tmp_path: Path) -> None:
    from PIL import Image

    for place, picture in enumerate(replay.pictures):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        (tmp_path / f"{place:03}.png").write_bytes(buffer.getvalue())
    files = [Item(p.name, FileBytes(str(p))) for p in sorted(tmp_path.iterdir())]
    model = PromptClassifier(CIFAR, model=replay, prompts="a {}", store=tmp_path / "store")
    assert np.mean(model.predict(files) == [CIFAR[i] for i in replay.y]) == pytest.approx(0.904)


def test_it_passes_scikit_learns_own_checks_on_vectors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # checks that need pandas or the array API say that they were skipped
        check_estimator(PromptClassifier(model=None, store=False))


def test_classes_of_vectors_keep_their_type() -> None:
    x = np.eye(3)[np.arange(30) % 3]
    model = PromptClassifier(model=None).fit(x, np.arange(30) % 3 + 9)
    assert model.predict(np.eye(3)).tolist() == [9, 10, 11] == model.classes_.tolist()
    with pytest.raises(UsageError, match="no model"):
        str(model.encoder_)
