"""Questions: as statements, with answers to choose from, with yes and no, from a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder

from cmprompt.cli.app import run
from cmprompt.embed import embed_texts
from cmprompt.errors import UsageError
from cmprompt.heads.zero_shot import Pool, zero_shot
from cmprompt.labels import LabelSet, everyday, label_set
from cmprompt.openset import VOCABULARY_TEMPLATE
from cmprompt.predict import predict
from cmprompt.product import Grid, on_grid
from cmprompt.prompts.statements import affirmed, is_yes_no, statement_of
from cmprompt.rule import Rule
from cmprompt.tasks.questions import RowQuestions, _only, ask, choices_of, hold_questions, question_sets
from cmprompt.types import Array, Embedded, Features, Item, Outcome

NOTHING = LabelSet({})


@pytest.mark.parametrize(
    ("question", "statement"),
    [
        ("What is the man holding?", "the man is holding a {}"),
        ("What color is the car?", "the car is {}"),
        ("What are the children doing?", "the children are {}"),
        ("What is hanging on the wall?", "a {} is hanging on the wall"),
        ("What is the building?", "the building is a {}"),
        ("What is in the cup?", "there is a {} in the cup"),
        ("What animal is this?", "this is a {}"),
        ("What kind of fruit is he eating?", "he is eating a {}"),
        ("Where is the cat?", "the cat is in the {}"),
        ("Who is riding the horse?", "the {} is riding the horse"),
        ("Where was this photo taken?", "this photo was taken in the {}"),
        ("Where is the man sitting?", "the man is sitting in the {}"),
        ("Where is the wedding?", "the wedding is in the {}"),
        ("Which season is it?", "it is a {}"),
        ("Which animal is this?", "this is a {}"),
        ("Which color is the car?", "the car is {}"),
        ("What is he riding on?", "he is riding on a {}"),
        ("Which animal is the boy looking at?", "the boy is looking at a {}"),
        ("What is going on?", "a {} is going on"),
        ("Which is bigger?", "Which is bigger? {}"),
        ("How many dogs are there?", "there are {} dogs"),
        ("Qué sostiene el hombre?", "Qué sostiene el hombre? {}"),
    ],
)
def test_a_question_as_what_its_answer_states(question: str, statement: str) -> None:
    assert statement_of(question) == statement and not is_yes_no(question)


@pytest.mark.parametrize(
    ("question", "statement"),
    [
        ("Is there a dog in the picture?", "there is a dog in the picture"),
        ("Is the man wearing a hat?", "the man is wearing a hat"),
        ("Is this a cat?", "this is a cat"),
        ("Is a cat on the sofa?", "a cat is on the sofa"),
        ("Does the woman have long hair?", "the woman has long hair"),
        ("Can you see a boat?", "there is a boat"),
        ("Are there any people?", "there are people"),
        ("Does the man wear a hat?", "the man wears a hat"),
        ("Does the old man watch birds?", "the old man watches birds"),
        ("Does the plane fly?", "the plane flies"),
        ("Do they wear hats?", "they wear hats"),
        ("Isn't it red?", "it is red"),
        ("Aren\u2019t there dogs?", "there are dogs"),
        ("Can't you see a boat?", "there is a boat"),
        ("Are pigs pink?", None),
    ],
)
def test_what_a_yes_states(question: str, statement: str | None) -> None:
    assert affirmed(question) == statement and is_yes_no(question)


def test_a_long_question_stays_as_it_is() -> None:
    question = "what is a " + "b" * 3000 + " aing" * 1400 + " x"
    assert statement_of(question) == f"{question} {{}}" and affirmed("is it " + question) is None


def test_answers_go_into_the_statement_with_their_article() -> None:
    asked = ask("What is the man holding?", label_set(["umbrella", "bag"]), question_sets())
    assert "the man is holding an umbrella." in asked.texts["umbrella"]
    assert "a photo: the man is holding a bag." in asked.texts["bag"]
    assert not asked.yes_no and asked.rule(Rule()) == Rule()


def test_a_no_is_not_put_into_words() -> None:
    asked = ask("Is the sky blue?", label_set(["yes", "no"]), question_sets())
    assert list(asked.texts) == ["yes"] and asked.texts["yes"][0] == "the sky is blue."
    assert (asked.rule(Rule()).none, asked.rule(Rule()).none_name) == (True, "no")


@pytest.mark.parametrize(
    ("question", "answers", "message"),
    [
        ("What is this?", NOTHING, "needs answers to choose from"),
        ("What is this?", label_set(["cat"], minimum=1), "needs answers to choose from"),
        ("Are pigs pink?", NOTHING, "'Are pigs pink\\?' has no known form"),
        ("What {} is it?", label_set(["cat", "dog"]), r"holds \{\}"),
    ],
)
def test_questions_that_cannot_be_asked(question: str, answers: LabelSet, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ask(question, answers, question_sets())


def test_templates_of_ones_own_must_hold_the_question() -> None:
    (own,) = question_sets(None, ["Q: {question} A: {}"])
    assert ask("What is it?", label_set(["cat", "dog"]), [own]).texts["cat"] == ("Q: What is it? A: cat",)
    with pytest.raises(UsageError, match=r"'photo' has no \{question\}"):
        question_sets(["photo"])


def test_the_own_templates_of_questions_are_english() -> None:
    with pytest.raises(UsageError, match=r"--language de: .* --translate-labels"):
        question_sets(language="de")
    assert question_sets(None, ["Frage: {question} Antwort: {}"], "de") and question_sets(language="en")


@pytest.mark.parametrize("question", ["What is this?", None])
def test_another_language_is_refused(colours: Path, question: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    (colours / "q.csv").write_text("image,question\nred.png,Is this a cat?\n")
    asked = ["--question", question, "--labels", "cat,dog"] if question else []
    assert run(["classify", str(colours / "q.csv"), *asked, "--language", "de", "--model", "tiny", "--no-store"]) == 2
    assert "--language de" in capsys.readouterr().err


def test_choices_are_split_at_bars_else_at_commas() -> None:
    assert list(choices_of("a cat, asleep | a dog").phrases) == ["a cat, asleep", "a dog"]
    assert list(choices_of("cat, dog").phrases) == ["cat", "dog"]
    assert not choices_of(" ")


def row(id: str, colour: Sequence[float], **columns: str) -> tuple[Item, Array]:
    vector = np.array([*colour, 0, 0, 0, 0, 0], np.float32)
    return Item(id, None, columns=columns), vector / np.linalg.norm(vector)


def test_each_row_gets_its_own_question_answered() -> None:
    rows = [
        row("a", (1, 0, 0), question="What is this?", choices="red|blue"),
        row("b", (1, 0, 0), question="What is this?", choices="green|blue"),
        row("c", (0, 0, 1), question="What is this?", choices=""),
        row("d", (0, 0, 1), choices="red|blue"),
    ]
    items, vectors = zip(*rows, strict=True)
    batch = Embedded(items, (Outcome(),) * 4, Features.of_images(np.stack(vectors)))
    found = list(RowQuestions(FakeEncoder(), question_sets()).answer([batch], Rule()))
    assert [each.item.id for each in found] == ["a", "b", "c", "d"]
    assert [each.status for each in found] == ["ok", "ok", "unsupported", "unsupported"]
    assert found[0].label == "red" and {name for name, _ in found[1].top} == {"green", "blue"}
    assert found[0].question == "What is this?"


class Calls(FakeEncoder):
    """Remembers how many texts came together."""

    def __init__(self) -> None:
        super().__init__()
        self.together: list[int] = []

    def encode_texts(self, texts: Sequence[str]) -> Array:
        self.together.append(len(texts))
        return super().encode_texts(texts)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_the_questions_of_a_batch_are_encoded_together(pool: Pool) -> None:
    asked = [("What is this?", "red|green"), ("Is this red?", ""), ("", "a|b"), ("Where is it?", "sea|red|blue")]
    items, vectors = zip(
        *(row(f"{n}", (1, 0.1, 0.2), question=each[0], choices=each[1]) for n, each in enumerate([*asked, *asked])),
        strict=True,
    )
    encoder, rule = Calls(), Rule(top_k=None)
    outcomes = tuple(Outcome() if n != 1 else Outcome("missing", "gone") for n in range(8))
    questions = RowQuestions(encoder, question_sets(None, ["{question} {}", "Q: {question} A: {}"]), pool)
    batch = Embedded(items, outcomes, Features.of_images(np.stack(vectors)))
    found = list(questions.answer([batch, batch], rule))
    assert encoder.together == [10]
    single = RowQuestions(FakeEncoder(), questions.sets, pool)
    alone = [next(single.answer([_only(batch, place)], rule)) for place in range(8)]
    assert found == [*alone, *alone]
    assert [each.status for each in alone[:4]] == ["ok", "missing", "unsupported", "ok"]
    assert alone[5].status == "unsupported" and "has no known form" in (alone[5].error or "")


def test_questions_are_forgotten_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.tasks.questions.HEADS_KEPT", 2)
    items, vectors = zip(
        *(row(f"{n}", (1, 0, 0), question=f"What is {n}?", choices="red|blue") for n in (0, 1, 2, 0)), strict=True
    )
    batch = Embedded(items, (Outcome(),) * 4, Features.of_images(np.stack(vectors)))
    questions = RowQuestions(FakeEncoder(), question_sets())
    parts = [_only(batch, place) for place in range(4)]
    assert [found.label for found in questions.answer([*parts, batch], Rule())] == ["red"] * 8
    assert len(questions._known) == 3


def test_the_vocabulary_is_put_on_its_grid_once(monkeypatch: pytest.MonkeyPatch) -> None:
    items, vectors = zip(*(row(name, (1, 0, 0), question="Is the sky red?") for name in "abc"), strict=True)
    batch = Embedded(items, (Outcome(),) * 3, Features.of_images(np.stack(vectors)))
    placed: list[int] = []

    def counting(rows: Array) -> Grid:
        placed.append(len(rows))
        return on_grid(rows)

    for module in ("predict", "product", "tasks.questions"):
        monkeypatch.setattr(import_module(f"cmprompt.{module}"), "on_grid", counting)
    found = list(RowQuestions(FakeEncoder(), question_sets()).answer([batch], Rule()))
    assert {each.label for each in found} <= {"yes", "no"}
    assert [count for count in placed if count > 100] == [len(everyday())]


def test_a_table_gives_one_record_for_each_question(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        ("red.png", "What is this?", "cat|dog"),
        ("red.png", "Is there a cat?", ""),
        ("gone.png", "Is there a cat?", ""),
    ]
    table = colours / "questions.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "question", "choices"), *rows])
    assert hold_questions([str(table)]) and not hold_questions([str(colours)])
    assert run(["classify", str(table), "--model", "tiny", "--no-store", "--format", "jsonl", "-q"]) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["id"], each["question"]) for each in records] == [each[:2] for each in rows]
    assert records[0]["label"] in ("cat", "dog") and records[1]["label"] in ("yes", "no")
    assert records[2]["status"] == "missing"


def test_labels_are_the_choices_of_rows_without(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = colours / "questions.csv"
    table.write_text("image,question,choices\nred.png,What is this?,\nred.png,What is this?,tea|milk\n")
    flags = ["--model", "tiny", "--no-store", "--format", "jsonl", "-q"]
    assert run(["classify", str(table), "--labels", "cat,coffee", *flags]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [{name for name, _ in each["top"]} for each in records] == [{"cat", "coffee"}, {"tea", "milk"}]
    assert [each["question"] for each in records] == ["What is this?"] * 2
    assert run(["classify", str(table), "--labels", "cat", *flags]) == 2


def test_an_empty_question_is_refused(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", str(colours / "red.png"), "--question", " ", "--labels", "cat,dog"]) == 2
    assert "--question is empty" in capsys.readouterr().err


def test_answers_are_translated_in_a_table_too(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, german = colours / "questions.csv", colours / "de.txt"
    table.write_text("image,question,choices\nred.png,What is this?,cat|dog\nred.png,Is there a cat?,\n")
    german.write_text("cat: Katze\ndog: Hund\nyes: ja\nno: nein\n")
    flags = ["--translate-labels", str(german), "--model", "tiny", "--no-store", "--format", "jsonl", "-q"]
    assert run(["classify", str(table), *flags]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["label"] in ("Katze", "Hund") and second["label"] in ("ja", "nein")


def test_a_no_is_translated(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    german = colours / "de.txt"
    german.write_text("yes: ja\nno: nein\n")
    flags = ["--translate-labels", str(german), "--model", "tiny", "--no-store", "--format", "jsonl", "-q"]
    asked = ["classify", str(colours / "red.png"), "--question", "Is there a cat?", *flags]
    assert run(asked) == 0
    (record,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert {name for name, _ in record["top"]} == {"ja", "nein"}
    german.write_text("yes: ja\n")
    assert run(asked) == 2


def test_choices_of_a_json_table_may_be_a_list(tmp_path: Path) -> None:
    from cmprompt.sources import read_items

    table = tmp_path / "q.jsonl"
    table.write_text(json.dumps({"image": "a.png", "question": "What is it?", "choices": ["cat, asleep", "dog"]}))
    (item,) = read_items([str(table)])
    assert list(choices_of(item.columns["choices"]).phrases) == ["cat, asleep", "dog"]


class Replay(FakeEncoder):
    """Real CLIP ViT-B/32 vectors: a text ending in "a NAME" has that of the prompt "a NAME"."""

    logit_scale, dim, exact = 100.0, 512, True

    def __init__(self, folder: Path) -> None:
        super().__init__()
        table = np.load(folder / "text-embeddings.npz")
        self.names = list(map(str, table["names"]))
        self.rows = dict(zip(self.names, table["a_name"].astype(np.float32), strict=True))

    def encode_texts(self, texts: Sequence[str]) -> Array:
        names = [text.rstrip(".").partition(" a ")[2].removeprefix("photo of a ") for text in texts]
        vectors = np.stack([self.rows[name] for name in names])
        unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def test_yes_and_no_on_real_clip_vectors(data_dir: Path) -> None:
    encoder = Replay(data_dir / "clip-vitb32-replay")
    data = np.load(data_dir / "clip-vitb32-replay" / "cifar10-test-first500.npz")
    images = data["image_embeddings"].astype(np.float32)
    truth = [str(name) for name in data["names"][data["labels"]]]
    batch = Embedded(tuple(Item(name, None) for name in truth), (Outcome(),) * 500, Features.of_images(images))
    words = embed_texts([VOCABULARY_TEMPLATE.replace("{}", name) for name in encoder.names[::2]], encoder)
    (own,) = question_sets(None, ["{statement}."])
    right = []
    for name in ("cat", "dog", "horse", "ship", "airplane"):
        asked = ask(f"Is this a {name}?", NOTHING, [own])
        found = predict([batch], zero_shot(encoder, asked.texts), asked.rule(Rule()), vocabulary=words)
        right += [(each.label == "yes") == (each.item.id == name) for each in found]
        yes = [each == name for each in truth]
        assert np.mean(np.array(right[-500:])[yes]) > 0.5
    assert np.mean(right) > 0.9
