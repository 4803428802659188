"""What `finetune`, `evaluate` and `adapt` share: labelled vectors, the text's head, what made a head, the table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from cmprompt.cli.texts import read_prompts, read_question
from cmprompt.errors import UsageError

if TYPE_CHECKING:
    from cmprompt.cli.notices import Say
    from cmprompt.heads.linear import LinearHead
    from cmprompt.heads.trial import Trial
    from cmprompt.heads.zero_shot import Pool
    from cmprompt.labelled.rows import Labelled
    from cmprompt.labels import LabelSet
    from cmprompt.sources import SourceOptions
    from cmprompt.store import Store
    from cmprompt.types import Encoder, Features, Head


def texts_of(
    names: Sequence[str],
    labels: Sequence[str] | None,
    label: Sequence[str] | None,
    prompts: Sequence[str] | None,
    template: Sequence[str] | None,
    language: str,
    describe: str | None = None,
    question: str | None = None,
    say: Say | None = None,
    *,
    minimum: int = 2,
) -> tuple[LabelSet, dict[str, tuple[str, ...]]]:
    """The prompts of the labels named or described, or else of the targets' own `names`; as answers to a `question`.

    Raises UsageError for fewer labels than `minimum`, and for a question of yes or no, whose no is no text that could
    be compared.
    """
    own = None if labels or label or describe else list(names)
    if question:
        asked = read_question(question, labels, own or label, prompts, template, language)
        if asked.yes_no:
            raise UsageError(f"question {question!r} has no two answers to measure; ask what, where or who")
        return asked.labels, asked.texts
    return read_prompts(labels, own or label, prompts, template, language, minimum=minimum, describe=describe, say=say)


def at_level(texts: Mapping[str, tuple[str, ...]], level: int | None) -> dict[str, tuple[str, ...]]:
    """The texts of labels a/b/c gathered under their first `level` parts. Raises UsageError where one label is left."""
    from cmprompt.labels import first_parts

    if level is None:
        return dict(texts)
    found: dict[str, tuple[str, ...]] = {}
    for label, own in texts.items():
        name = first_parts(label, level)
        found[name] = (*found.get(name, ()), *own)
    if len(found) < 2:
        raise UsageError(f"--level {level} leaves one label, {next(iter(found))!r}; take a deeper level")
    return found


def columns_for(source: str, options: SourceOptions, beside: str | None) -> SourceOptions:
    """The `options` for a source: a folder has no columns, and where a table stands beside it they are the table's."""
    if os.path.isdir(source) and beside and not os.path.isdir(beside):
        return replace(options, image_col=None, text_col=None, target_col=None)
    return options


def trial_lines(trial: Trial) -> Iterator[str]:
    """What a fit has to say: what `auto` tried, the table, the temperature, the verdict."""
    from cmprompt.report.figures import table_lines

    for row in trial.record.get("auto", []):
        accuracy = f", accuracy {100 * row['accuracy']:.1f}" if "accuracy" in row else ""
        yield f"tried {row['kind']}: held-out loss {row['loss']:.4g}{accuracy}"
    yield from table_lines(trial.table)
    yield rows_line(trial.record)
    if "left_out" in trial.record:
        yield f"left out {trial.record['left_out']} rows whose pictures or texts are also among those that judge"
    if "temperature" in trial.record:
        before, after = (100 * trial.record[f"judged_ece_{when}"] for when in ("before", "after"))
        yield f"temperature {trial.record['temperature']:.3g}: ECE {before:.1f} before, {after:.1f} after"
    chosen = trial.record.get("kind", trial.chosen)
    name = trial.chosen if chosen == trial.chosen else f"{trial.chosen} ({chosen})"
    yield f"{name}: " + "; ".join(trial.verdict.reasons)


def rows_line(record: Mapping[str, Any]) -> str:
    """How many rows trained the head, chose its settings and judged it."""
    trained, chose, judged, splits = (record[name] for name in ("trained_on", "chose_on", "judged_on", "splits"))
    chosen = f"of which {chose:,} chose the settings" if chose else "too few to choose settings by"
    others = f"{judged:,} others" if splits == 1 else f"{judged:,}, in {splits} folds by fits to the other folds"
    return f"trained on {trained:,} rows, {chosen}; judged on {others}"


def head_record(
    trial: Trial,
    encoder: Encoder,
    texts: Mapping[str, Sequence[str]] | None,
    *,
    model: str,
    table: str,
    source: Mapping[str, object],
    level: int | None,
    argv: Sequence[str],
    forced: bool,
) -> dict[str, object]:
    """How a head came to be, for `head.json`."""
    from cmprompt.report.figures import plain_rows

    return {
        **origin(encoder, trial.head, texts, model=model, argv=argv),
        "table": os.path.abspath(table),
        "source": dict(source),
        "level": level,
        "kind": trial.chosen,
        "multi_label": trial.targets.ndim == 2,
        "metrics": plain_rows(trial.table),
        "verdict": list(trial.verdict.reasons),
        "forced": forced,
        "fit": {name: value for name, value in trial.record.items() if name != "curve"},
    }


def origin(
    encoder: Encoder, head: Head, texts: Mapping[str, Sequence[str]] | None, *, model: str, argv: Sequence[str]
) -> dict[str, object]:
    """What made a head: the model by the name that finds it again, hashes, versions, the command."""
    from cmprompt.encoders.names import lasting_name
    from cmprompt.rule import Rule
    from cmprompt.runs.header import run_header

    about = run_header(encoder, head, Rule(), prompts=texts)
    kept = {name: about[name] for name in ("weights_hash", "revision", "encoding", "prompt_hash", "versions")}
    return {"model": lasting_name(model, encoder), **kept, "command": ["cmprompt", *argv]}


def start_head(encoder: Encoder, texts: Mapping[str, Sequence[str]], pool: str, store: Store | None) -> LinearHead:
    """The zero-shot head that fitting starts from: one vector for each label."""
    from cmprompt.heads.linear import LinearHead
    from cmprompt.heads.zero_shot import zero_shot

    if pool not in ("mean", "scores"):
        raise UsageError(f"--pool {pool}: a head starts from one vector for each label; use mean or scores")
    head = zero_shot(encoder, texts, pool=cast("Pool", pool), store=store)
    assert isinstance(head, LinearHead)
    return head


@dataclass(frozen=True)
class OldHead:
    """The head that --from names, the model it belongs to, and how it came to be."""

    directory: str
    head: LinearHead
    model: str
    record: Mapping[str, Any]

    def extended_by(
        self, encoder: Encoder, texts: Mapping[str, Sequence[str]], pool: str, store: Store | None
    ) -> LinearHead:
        """The start of the new fit: the old head, and the text of the labels that it lacks."""
        from cmprompt.heads.extend import extended

        new = {label: own for label, own in texts.items() if label not in self.head.labels}
        return extended(self.head, start_head(encoder, new, pool, store)) if new else self.head

    def own_rows(self, encoder: Encoder, store: Store | None, say: Say) -> tuple[Labelled, Features] | None:
        """The data that the old head was fitted on; None, and a notice, where they cannot be measured any more."""
        from cmprompt.labelled import read_labelled
        from cmprompt.labelled.vectors import embed_labelled
        from cmprompt.sources import SourceOptions

        if "table" not in self.record:
            return None
        many = bool(self.record.get("multi_label"))
        try:
            source, level = SourceOptions(**self.record["source"]), self.record.get("level")
            data = read_labelled(self.record["table"], source, multi_label=many, level=level)
            data.check_labels(self.head.labels)
            return data, embed_labelled(data, encoder, store, self.head.needs)
        except (UsageError, TypeError) as error:  # a record that was edited may name what no source has
            say(f"the old data cannot train again, so labels without new rows may be forgotten: {error}")
            return None

    def lines(
        self, rows: tuple[Labelled, Features], trial: Trial, encoder: Encoder, store: Store | None
    ) -> Iterator[str]:
        """Before and after on `own_rows`."""
        from cmprompt.encoders.tuned import with_towers
        from cmprompt.labelled.vectors import embed_labelled
        from cmprompt.report.figures import table_lines
        from cmprompt.rule import Rule
        from cmprompt.tasks.evaluate import Contender, contest
        from cmprompt.utf8 import clean

        data, features = rows
        seen = features
        if trial.towers:
            seen = embed_labelled(data, with_towers(encoder, trial.towers), store, trial.head.needs)
        yield f"on the old data, {clean(self.record['table'])}:"
        rule = Rule(kind="sigmoid" if data.multi_label else "softmax")
        before, after = Contender(self.head, features, rule), Contender(trial.head, seen, rule)
        found = contest(data, {"before": before, "after": after})
        yield from table_lines(found.table)


def old_head(directory: str | None, model: str) -> OldHead | None:
    """What --from names; it brings its own model unless `model` names one. Raises UsageError where no fit can go on."""
    if directory is None:
        return None
    from cmprompt.heads.extend import start_of
    from cmprompt.heads.io import load_head, model_of, read_settings

    chosen = model if model != "auto" else model_of(directory)
    return OldHead(directory, start_of(load_head(directory)), chosen, read_settings(directory)["record"])
