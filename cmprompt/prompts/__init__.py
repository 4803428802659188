"""Template sets and labels -> {label: texts}, the mapping from which every zero-shot head is built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from cmprompt.errors import UsageError, unknown
from cmprompt.labels import LabelSet, prompts_dir
from cmprompt.labels.files import parse_toml, place, read_lines, read_text
from cmprompt.prompts.scripts import is_foreign
from cmprompt.prompts.statements import statement_of
from cmprompt.prompts.wording import fill, fill_adjusted

DEFAULT_SET, PLAIN_SET = "photo", "plain"
SET_KEYS = ("name", "description", "language", "source", "adjust", "templates")
QUESTION, STATEMENT = "{question}", "{statement}"
OPEN_CLIP_SETS = {
    "openai-imagenet": ("OPENAI_IMAGENET_TEMPLATES", "80 templates that OpenAI chose for ImageNet"),
    "openai-simple": ("SIMPLE_IMAGENET_TEMPLATES", "The seven of them that do as well"),
}
OTHER = ""  # the language of letters that none of our sets is written in
# what a script says about the language; Latin letters say nothing and read as English
_SCRIPTS = (
    ("ja", "\u3040", "\u30ff"),
    ("zh", "\u3400", "\u9fff"),
    ("ar", "\u0600", "\u06ff"),
    ("hi", "\u0900", "\u097f"),
)


@dataclass(frozen=True)
class PromptSet:
    """Templates that are averaged. `verbatim`: the label goes in as it stands, articles and underscores included."""

    name: str
    templates: tuple[str, ...]
    description: str = ""
    language: str = "en"
    source: str = ""
    verbatim: bool = False


def expand(labels: LabelSet, sets: Sequence[PromptSet]) -> dict[str, tuple[str, ...]]:
    """{label: texts}, class-major: for each label, its phrases in every template of every set, in order.

    A label with descriptions of its own keeps those (CuPL). Raises UsageError where nothing fills a label's texts.
    """
    for prompt_set in sets:
        if asks(prompt_set):
            raise UsageError(f"prompt set {prompt_set.name!r} answers a question; give one with --question")
    prompts = {
        label: phrases if label in labels.verbatim else _fill_sets(phrases, sets)
        for label, phrases in labels.phrases.items()
    }
    if (bare := next((label for label, texts in prompts.items() if not texts), None)) is not None:
        raise UsageError(f"label {bare!r} has no text; name a prompt set with --prompts")
    return prompts


def prompt_hash(prompts: Mapping[str, Sequence[str]]) -> str:
    """sha256 over the labels and texts in order, as canonical JSON: equal hashes mean equal heads for one model."""
    pairs = [[label, list(texts)] for label, texts in prompts.items()]
    return hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode()).hexdigest()


def choose_sets(
    names: Sequence[str], templates: Sequence[str], labels: LabelSet, *, language: str = "auto"
) -> list[PromptSet]:
    """The sets that --prompts and --template name together; neither: the photo set of the language, or `plain`."""
    sets = [load_prompt_set(name) for name in names]
    if templates:
        sets.append(inline_set(templates))
    return sets or [load_prompt_set(photo_set(labels, language))]


def photo_set(labels: LabelSet, language: str = "auto") -> str:
    """The name of the photo prompts in `language`; `auto` goes by the script of most labels, unknown to us: `plain`."""
    language = language_of(labels) if language == "auto" else language
    if language == OTHER:
        return PLAIN_SET
    known = {name.removeprefix("photo-") for name in prompt_set_names() if name.startswith("photo-")} | {"en"}
    if language not in known:
        raise UsageError(unknown("language", language, {*known, "auto"}))
    return DEFAULT_SET if language == "en" else f"photo-{language}"


def language_of(labels: LabelSet) -> str:
    """The language of most labels, as far as a script tells: Latin letters are English, those without a set OTHER."""
    languages = [_language_of_text(" ".join(phrases)) for phrases in labels.phrases.values()]
    return max(dict.fromkeys(languages), key=languages.count, default="en")


def has_place(template: str) -> bool:
    """Whether a label can go into it: a statement brings its own {}."""
    return "{}" in template or STATEMENT in template


def inline_set(templates: Sequence[str], name: str = "inline") -> PromptSet:
    """Templates from the command line, verbatim. Raises UsageError for one without {}."""
    prompt_set = PromptSet(name, tuple(templates), "Templates given by hand", "", "the command line", verbatim=True)
    return _checked(prompt_set, "--template")


def asks(prompt_set: PromptSet) -> bool:
    """Whether its templates answer a question."""
    return any(QUESTION in template or STATEMENT in template for template in prompt_set.templates)


def with_question(prompt_set: PromptSet, question: str, statement: str | None = None) -> PromptSet:
    """The set with `question` in the place of {question}, and of {statement} what an answer to it states."""
    stated = statement_of(question) if statement is None else statement
    filled = (text.replace(QUESTION, question).replace(STATEMENT, stated) for text in prompt_set.templates)
    return replace(prompt_set, templates=tuple(filled))


def prompt_set_names() -> list[str]:
    """The sets that can be named: our own and open_clip's."""
    return sorted([*(path.stem for path in prompts_dir().glob("*.toml")), *OPEN_CLIP_SETS])


def load_prompt_set(name: str) -> PromptSet:
    """A set by its name or from a file: TOML, or one template a line. Raises UsageError that lists the known names."""
    if name in OPEN_CLIP_SETS:
        return _open_clip_set(name)
    if name in prompt_set_names():
        return read_prompt_file(prompts_dir() / f"{name}.toml", verbatim=False)
    path = Path(name)
    if not name or (not path.exists() and not path.suffix and path.name == name):
        raise UsageError(unknown("prompt set", name, prompt_set_names()))
    return read_prompt_file(path, verbatim=True)


def read_prompt_file(path: Path, *, verbatim: bool) -> PromptSet:
    """A file of templates. `adjust = true` in it fits articles to the label, as our own sets do.

    Raises UsageError that names the file and the line.
    """
    if path.suffix.lower() != ".toml":
        templates = tuple(line for _, line in read_lines(path))
        return _checked(PromptSet(path.stem, templates, source=str(path), verbatim=verbatim), str(path))
    text = read_text(path)
    data = parse_toml(text, path)
    if strange := [key for key in data if key not in SET_KEYS]:
        raise UsageError(f"{place(str(path), text, strange[0])}: {unknown('key', strange[0], SET_KEYS)}")
    adjust = data.pop("adjust", False)
    if not isinstance(adjust, bool):
        raise UsageError(f"{path}: adjust is true or false, not {adjust!r}")
    values = {key: _text(value, key, path) for key, value in data.items() if key != "templates"}
    templates = _templates(data.get("templates"), path)
    values = {"name": path.stem, "source": str(path), **values}
    return _checked(PromptSet(**values, templates=templates, verbatim=verbatim and not adjust), str(path), text)


def _text(value: object, key: str, path: Path) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{path}: {key} is a text in quotes, not {value!r}")
    return value


def _templates(value: object, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(template, str) for template in value):
        raise UsageError(f'{path}: a prompt set needs templates = ["a photo of a {{}}.", ...]; labels go to --labels')
    return tuple(value)


def _checked(prompt_set: PromptSet, where: str, text: str = "") -> PromptSet:
    if not prompt_set.templates:
        raise UsageError(f"{where}: no templates")
    if (bare := next((template for template in prompt_set.templates if not has_place(template)), None)) is not None:
        raise UsageError(f"{place(where, text, bare)}: template {bare!r} has no {{}} for the label")
    return prompt_set


def _fill_sets(phrases: Sequence[str], sets: Sequence[PromptSet]) -> tuple[str, ...]:
    return tuple(
        fill(template, phrase) if prompt_set.verbatim else fill_adjusted(template, phrase, prompt_set.language)
        for phrase in phrases
        for prompt_set in sets
        for template in prompt_set.templates
    )


def _language_of_text(text: str) -> str:
    """The language whose script `text` uses: kana before Han, which both Chinese and Japanese write."""
    rest = OTHER if any(map(is_foreign, text)) else "en"
    return next((code for code, first, last in _SCRIPTS if any(first <= letter <= last for letter in text)), rest)


def _open_clip_set(name: str) -> PromptSet:
    attribute, description = OPEN_CLIP_SETS[name]
    templates = tuple(template("{}") for template in getattr(_open_clip_templates(), attribute))
    return PromptSet(name, templates, description, "en", f"open_clip.{attribute}", verbatim=True)


@cache
def _open_clip_templates() -> ModuleType:
    """open_clip's file of templates alone: the whole package would bring torch and cost seconds."""
    package = find_spec("open_clip")
    folder = next(iter(package.submodule_search_locations or []), None) if package else None
    spec = spec_from_file_location("_open_clip_templates", Path(folder or ".") / "zero_shot_metadata.py")
    if folder is None or spec is None or spec.loader is None:
        raise UsageError("open_clip's prompt sets need the package open-clip-torch")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
