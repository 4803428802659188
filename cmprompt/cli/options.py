"""Every shared option, spelt once: its names, help text and group. Defaults stand in the commands' signatures."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cmprompt.cli import completion
from cmprompt.errors import UsageError
from cmprompt.registry import WRITERS


def option(
    *names: str,
    help: str,
    group: str,
    metavar: str | None = None,
    values: completion.Names | None = None,
    **more: Any,
) -> Any:
    """A typer option in a help group. The shell completes the words of its metavar, and `values`."""
    complete = completion.completer(metavar, values)
    return typer.Option(*names, help=help, rich_help_panel=group, metavar=metavar, autocompletion=complete, **more)


# What to read
INPUTS, LABELS, MODEL, DECISION, OUTPUT, STORE = "Inputs", "Labels and prompts", "Model", "Decision", "Output", "Store"
FITTING, MEASURING = "Fitting", "Measuring"

Inputs = Annotated[
    list[str] | None,
    typer.Argument(metavar="INPUT", help="Files, folders, globs, tables, tar or zip shards, or - for a list."),
]
FilesFrom = Annotated[str | None, option("--files-from", metavar="FILE", group=INPUTS, help="Read paths from FILE.")]
NullSeparated = Annotated[bool, option("-0", "--null", group=INPUTS, help="Lists end each path with a NUL byte.")]
ImageCol = Annotated[str | None, option("--image-col", metavar="NAME", group=INPUTS, help="The table's image column.")]
TextCol = Annotated[
    str | None, option("--text-col", metavar="NAME", group=INPUTS, help="The table's text column, or a shard's field.")
]
TargetCol = Annotated[
    str | None,
    option("--target-col", metavar="NAME", group=INPUTS, help="The same of labels or numbers."),
]
Limit = Annotated[int | None, option("--limit", metavar="N", group=INPUTS, min=0, help="Stop after N inputs.")]
AllFiles = Annotated[
    bool, option("--all-files", group=INPUTS, help="In folders, try every file, whatever its name ends with.")
]
AllowTruncated = Annotated[
    bool, option("--allow-truncated", group=INPUTS, help="Score what can be read of a cut-off picture, and flag it.")
]
StdinJsonl = Annotated[
    bool,
    option(
        "--stdin-jsonl", group=INPUTS,
        help='Read {"path": ...} lines from standard input, and answer each with a record before the next is read.',
    ),
]  # fmt: skip
DryRun = Annotated[
    bool, option("--dry-run", group=INPUTS, help="Say what would be read, and with what; encode nothing.")
]

# What to take of videos
VIDEO = "Video"
Fps = Annotated[
    float | None,
    option("--fps", metavar="N", group=VIDEO, help="Frames a second. Default: one, and one at each cut."),
]
Frames = Annotated[int | None, option("--frames", metavar="N", group=VIDEO, min=1, help="So many, spread evenly.")]
Timeline = Annotated[bool, option("--timeline", group=VIDEO, help="Label stretches of a video, not the whole of it.")]

# What to look for
Labels = Annotated[
    list[str] | None,
    option("--labels", metavar="a,b|@FILE|@everyday", group=LABELS, help="Labels, or a file of them. Repeatable."),
]
Label = Annotated[
    list[str] | None, option("--label", metavar="TEXT", group=LABELS, help="One label, commas and all. Repeatable.")
]
Level = Annotated[
    int | None, option("--level", metavar="N", group=LABELS, min=1, help="Of labels a/b/c, report the first N parts.")
]
Pool = Annotated[
    str,
    option(
        "--pool", metavar="mean|scores|max", group=LABELS, help="How the phrases of one label make one score: CuPL's"
        " mean of embeddings, DCLIP's mean of scores, or the best."
    ),
]  # fmt: skip
Prompts = Annotated[
    list[str] | None,
    option(
        "--prompts", metavar="NAME|FILE", group=LABELS, values=completion.prompt_sets,
        help="A template set; several make an ensemble. Default: what suits the labels' letters.",
    ),
]  # fmt: skip
Template = Annotated[
    list[str] | None, option("--template", metavar="TEXT", group=LABELS, help="A template with {}. Repeatable.")
]
Language = Annotated[
    str, option("--language", metavar="auto|CODE", group=LABELS, help="Language of the prompts: auto, en, zh, es, ...")
]


def _asked(question: str | None) -> str | None:
    """Raises UsageError where nothing is asked: a script's empty variable is no run without a question."""
    if question is not None and not question.strip():
        raise UsageError("--question is empty; write what to ask, or leave it out")
    return question


# What to say in words
Question = Annotated[
    str | None,
    option(
        "--question", metavar="TEXT", group=LABELS, callback=_asked,
        help="Labels are answers to this; a yes or no question needs none. Tables may hold questions and choices;"
        " labels are for their rows without choices.",
    ),
]  # fmt: skip
Describe = Annotated[
    str | None,
    option("--describe", metavar="FILE", group=LABELS, help="Labels' descriptions, and say which of them won."),
]
TranslateLabels = Annotated[
    str | None,
    option("--translate-labels", metavar="FILE", group=LABELS, help="Report each label by its translation in FILE."),
]

# What to look with
Model = Annotated[
    str,
    option(
        "--model", metavar="auto|NAME|local-dir:DIR|hf-hub:ID", group=MODEL, values=completion.models,
        help="See `cmprompt models list`.",
    ),
]  # fmt: skip
Device = Annotated[str, option("--device", metavar="auto|cpu|cuda|mps", group=MODEL, help="Where to run the model.")]
Precision = Annotated[
    str,
    option(
        "--precision",
        metavar="auto|fp32|bf16|fp16|int8",
        group=MODEL,
        help="Arithmetic of the model; int8 is fitted to your images.",
    ),
]
Exact = Annotated[bool, option("--exact", group=MODEL, help="No fast choices: equal to open_clip within 1e-5.")]
BatchSize = Annotated[
    int | None,
    option("--batch-size", metavar="N", group=MODEL, min=1, help="Images encoded at once. Default: the model's own."),
]


def _hold_to(threads: int | None) -> int | None:
    """What fits heads and ranks vectors asks for the cores that there are, far from the command line."""
    if threads is not None or "cmprompt.encoders.devices" in sys.modules:
        from cmprompt.encoders.devices import hold_to

        hold_to(threads)
    return threads


Threads = Annotated[
    int | None,
    option("--threads", metavar="N", group=MODEL, min=1, callback=_hold_to, help="Cores to use. Default: all."),
]
Compile = Annotated[
    bool, option("--compile", group=MODEL, help="Compile the model for this GPU: a slow start, then more images/s.")
]
AcceptLicence = Annotated[
    bool, option("--accept-licence", group=MODEL, help="Use weights that are for non-commercial or research use only.")
]
HeadDir = Annotated[
    str | None, option("--head", metavar="DIR", group=MODEL, help="A fitted head in place of labels and prompts.")
]

# What to decide
MultiLabel = Annotated[
    bool, option("--multi-label", group=DECISION, help="Labels do not exclude each other: a sigmoid for each.")
]
TopK = Annotated[str, option("--top-k", metavar="N|all", group=DECISION, help="How many labels to list.")]
HitCount = Annotated[str, option("--top-k", metavar="N|all", group=DECISION, help="How many hits to list.")]
Threshold = Annotated[
    str | None,
    option("--threshold", metavar="P|z:Z|cos:C", group=DECISION, help="No label below this probability, z or cosine."),
]
MinMargin = Annotated[
    float | None, option("--min-margin", metavar="P", group=DECISION, help="No label where the two best are closer.")
]
NoneOfThese = Annotated[bool, option("--none/--no-none", group=DECISION, help="Let the answer be none of the labels.")]
NoneName = Annotated[str, option("--none-name", metavar="NAME", group=DECISION, help="What to call none of these.")]

# What to write
OutputFile = Annotated[
    str | None, option("-o", "--output", metavar="FILE", group=OUTPUT, help="Write here; its ending names the format.")
]
Format = Annotated[
    str | None,
    option(
        "--format", metavar="|".join(WRITERS), group=OUTPUT,
        help="Default: a table on a terminal, TSV in a pipe.",
    ),
]  # fmt: skip
Resume = Annotated[bool, option("--resume", group=OUTPUT, help="Go on where a run with the same -o was stopped.")]
Overwrite = Annotated[bool, option("--overwrite", group=OUTPUT, help="Replace an output that is there already.")]
Header = Annotated[
    bool,
    option(
        "--header",
        group=OUTPUT,
        help="First line of JSONL: model, prompts, versions. Of classify also Parquet's metadata; in TSV column names.",
    ),
]
KeepColumns = Annotated[bool, option("--keep-columns", group=OUTPUT, help="Carry a table's own columns over.")]
CsvSafe = Annotated[bool, option("--csv-safe", group=OUTPUT, help="CSV for spreadsheets: defuse cells like =1+1.")]
Quiet = Annotated[bool, option("-q", "--quiet", group=OUTPUT, help="No notices and no progress on stderr.")]
Verbose = Annotated[
    bool, option("-v", "--verbose", group=OUTPUT, help="Say more on stderr: what runs, what was stored or failed.")
]
Timings = Annotated[bool, option("--timings", group=OUTPUT, help="Say where the time went, on stderr.")]

# What to fit
HeadKind = Annotated[
    str | None,
    option(
        "--head", metavar="KIND", group=FITTING, values=completion.heads,
        help="linear, mlp, tip-adapter, tip-adapter-f, gda, proker, coop; of two modalities concat, weighted,"
        " weighted-channels, attention, add, hadamard, dot, bilinear, bilinear-full, and with an MLP on top concat-mlp,"
        " add-mlp, hadamard-mlp, dot-mlp; or auto to try those that fit."
        " Default: concat with text beside the images, else linear.",
    ),
]  # fmt: skip
ImageEncoder = Annotated[
    str | None,
    option(
        "--image-encoder", metavar="timm:NAME|classic|classic:sift", group=FITTING,
        help="Image features in place of the model's. timm:NAME/random has seeded random weights (nothing is"
        " downloaded), timm:NAME/128px sees pictures of that size.",
    ),
]  # fmt: skip
TextEncoder = Annotated[
    str | None,
    option(
        "--text-encoder", metavar="classic|classic:tfidf|embedding", group=FITTING,
        help="Text features in place of the model's. classic:tfidf weighs words by how rare they are in the table."
        " embedding is a word embedding that is learned with the head, pooled; embedding:gru or embedding:transformer"
        " reads the words in their order.",
    ),
]  # fmt: skip
Use = Annotated[str | None, option("--use", metavar="image|text", group=FITTING, help="Read one modality only.")]
Task = Annotated[str, option("--task", metavar="classification|regression", group=FITTING, help="Labels or numbers.")]
Val = Annotated[
    str,
    option(
        "--val",
        metavar="FILE|PART",
        group=FITTING,
        help="The rows that judge: a table, or a part of this one; five folds in turn, where that is under 100 rows.",
    ),
]
Shots = Annotated[
    int | None, option("--shots", metavar="K", group=FITTING, min=1, help="Train on K rows of each class.")
]
Seed = Annotated[int, option("--seed", metavar="N", group=FITTING, min=0, help="One seed, one head.")]
ClassWeight = Annotated[
    str | None,
    option(
        "--class-weight", metavar="balanced|a=2,b=1", group=FITTING,
        help="Give every class the same say, or each its own.",
    ),
]  # fmt: skip
Loss = Annotated[
    str | None,
    option(
        "--loss", metavar="huber|squared", group=FITTING,
        help="Of numbers. Huber's, the default, shrugs off mistyped targets.",
    ),
]  # fmt: skip
Wise = Annotated[
    str | None, option("--wise", metavar="auto|0..1", group=FITTING, help="Stay between zero-shot (0) and fitted (1).")
]
StopWords = Annotated[
    str | None,
    option(
        "--stop-words", metavar="CODE", group=FITTING,
        help="Words to leave out under --text-encoder classic: de, en, es, fr, it, nl, pt.",
    ),
]  # fmt: skip
Augment = Annotated[
    int,
    option(
        "--augment", metavar="N", group=FITTING, min=0,
        help="Train on N crops and flips of each picture too: averaged where a head remembers or sums rows, one drawn"
        " at each step where it is trained by steps.",
    ),
]  # fmt: skip
Unfreeze = Annotated[
    str | None,
    option(
        "--unfreeze", metavar="image", group=FITTING,
        help="Train the image tower with the head, on crops and flips. Slow on a CPU.",
    ),
]  # fmt: skip
FromHead = Annotated[
    str | None,
    option("--from", metavar="HEAD", group=FITTING, help="Go on from a fitted head: add labels, or shift its domain."),
]
Force = Annotated[bool, option("--force", group=FITTING, help="Save a head that does not help, and say so inside.")]
HeadOutput = Annotated[
    str | None,
    option("-o", "--output", metavar="DIR", group=OUTPUT, help="Write the head here. Default: beside TABLE, as .head"),
]

AdaptedOutput = Annotated[
    str | None, option("-o", "--output", metavar="DIR", group=OUTPUT, help="Write the head here.")
]

PriorShares = Annotated[
    str | None, option("--prior", metavar="FILE", group=FITTING, help="Known shares of the labels: lines label,share.")
]

# What to measure
HeadDirs = Annotated[
    list[str] | None, option("--head", metavar="DIR", group=MEASURING, help="A fitted head to measure. Repeatable.")
]
Measured = Annotated[
    str,
    option(
        "--task", metavar="classification|regression|retrieval|alignment", group=MEASURING,
        help="Labels, numbers, which text belongs to which image, or how well a model's two sides fit.",
    ),
]  # fmt: skip
ComparePrompts = Annotated[
    str | None,
    option("--compare-prompts", metavar="A,B", group=MEASURING, help="Score each template set alone, and together."),
]
Plot = Annotated[
    str | None, option("--plot", metavar="FILE.svg", group=MEASURING, help="With --task alignment: draw it here.")
]
TunePrompts = Annotated[
    bool,
    option("--tune-prompts", group=MEASURING, help="Pick and weigh templates on half of the rows; write a set."),
]
TuneThresholds = Annotated[
    bool,
    option(
        "--tune-thresholds", group=MEASURING, help="Find a z for each label on half of the rows; write a label file."
    ),
]
EvaluateOutput = Annotated[
    str | None,
    option(
        "-o", "--output", metavar="FILE", group=OUTPUT,
        help="The figures as JSON, with the labels' and the confusion matrices. When tuning, what was tuned; by default"
        " TABLE.prompts.toml or TABLE.labels.json.",
    ),
]  # fmt: skip
Predictions = Annotated[
    str | None,
    option("--predictions", metavar="FILE", group=MEASURING, help="Write the last contender's answers here."),
]

# Where vectors are kept
StoreDir = Annotated[
    str | None, option("--store", metavar="DIR", group=STORE, help="Keep embeddings in DIR. Default: your cache.")
]
NoStore = Annotated[bool, option("--no-store", group=STORE, help="Neither read nor keep embeddings.")]
