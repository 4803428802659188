"""The main job on real photos with the bundled model, as a shell sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, not_yet

LABELS = "cat,dog,horse,coffee,rocket,person,flower,building"


def records(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@not_yet
def test_names_what_is_on_the_sample_photos(cli: Cli, samples: Path) -> None:
    photos = samples / "photos"
    names = ["cat.png", "coffee.png", "rocket.jpg", "flower.jpg"]
    result = cli("classify", *(photos / name for name in names), "--labels", LABELS, "--format", "jsonl")
    assert result.returncode == 0
    assert [record["label"] for record in records(result.stdout)] == ["cat", "coffee", "rocket", "flower"]


def test_a_folder_gives_one_line_for_each_photo_in_sorted_order(cli: Cli, samples: Path) -> None:
    result = cli("classify", samples / "photos", "--labels", LABELS)
    assert result.returncode == 0, result.stderr.decode()
    lines = result.stdout.decode().splitlines()
    assert [line.split("\t")[0] for line in lines] == sorted(map(str, (samples / "photos").iterdir()))
    assert all(line.split("\t")[1] in LABELS.split(",") for line in lines)


def test_a_null_separated_list_keeps_odd_names(cli: Cli, samples: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a\tb\n.png"
    odd.write_bytes((samples / "photos/cat.png").read_bytes())
    result = cli("classify", "-0", "-", "--labels", LABELS, "--format", "jsonl", stdin=f"{odd}\0".encode())
    assert [record["id"] for record in records(result.stdout)] == [str(odd)]


def test_a_missing_path_is_a_record_and_status_1(cli: Cli, samples: Path) -> None:
    result = cli("classify", samples / "photos/cat.png", "nowhere.jpg", "--labels", LABELS, "--format", "jsonl")
    assert result.returncode == 1
    assert [record["status"] for record in records(result.stdout)] == ["ok", "missing"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["photos"], "no labels"),
        (["photos", "--labels", "cat,dog", "--model", "ViT-B32"], "ViT-B-32"),
        (["photos", "--labels", "cat,dog", "--prompts", "foto"], "photo"),
        (["photos", "--labels", "cat,dog", "--format", "json"], "jsonl"),
        (["--labels", "cat,dog"], "nothing to read"),
        (["photos", "--labels", "@nowhere.txt"], "nowhere.txt"),
    ],
    ids=["no-labels", "model", "prompts", "format", "inputs", "label-file"],
)
def test_a_usage_error_is_one_line_and_status_2(cli: Cli, arguments: list[str], says: str) -> None:
    result = cli("classify", *arguments)
    assert result.returncode == 2
    assert result.stdout == b"" and result.stderr.count(b"\n") == 1 and says in result.stderr.decode()


def test_the_same_answers_from_python(samples: Path, cli: Cli) -> None:
    code = (
        "import sys; from cmprompt import PromptClassifier;"
        f"print(*PromptClassifier({LABELS.split(',')}).predict(sys.argv[1:]))"
    )
    photos = [str(samples / "photos" / name) for name in ("cat.png", "rocket.jpg")]
    lines = cli("classify", *photos, "--labels", LABELS).stdout.decode().splitlines()
    result = subprocess.run(
        [sys.executable, "-c", code, *photos], capture_output=True, text=True, env=cli.environment, check=True
    )
    assert result.stdout.split() == [line.split("\t")[1] for line in lines]


@pytest.mark.parametrize("labels", [LABELS, "a label that nobody has asked for,another"])
def test_once_the_model_is_prepared_no_run_imports_torch(cli: Cli, samples: Path, labels: str) -> None:
    photos = samples / "photos"
    assert cli("classify", photos / "cat.png", "--labels", LABELS).returncode == 0
    code = (
        "import sys; from cmprompt.cli.app import run; assert run(sys.argv[1:]) == 0\n"
        "print(sorted({'torch', 'torchvision', 'open_clip', 'timm'} & set(sys.modules)), file=sys.stderr)"
    )
    line = [sys.executable, "-c", code, "classify", str(photos / "rocket.jpg"), "--labels", labels, "--quiet"]
    result = subprocess.run(line, capture_output=True, text=True, env=cli.environment, check=True)
    assert result.stderr == "[]\n" and result.stdout.count("\n") == 1


def test_a_dry_run_imports_no_torch_and_writes_nothing(samples: Path, tmp_path: Path) -> None:
    fresh = Cli(tmp_path / "home")
    code = (
        "import sys; from cmprompt.cli.app import run\n"
        "assert all(run(line.split('|')) == 0 for line in sys.argv[1:])\n"
        "print(sorted({'torch', 'torchvision', 'open_clip', 'openvino'} & set(sys.modules)), file=sys.stderr)"
    )
    photos = f"{samples}/photos|--quiet|--dry-run"
    lines = [
        f"classify|{photos}|--labels|cat,dog|--prompts|photo|--prompts|plain",
        f"classify|{photos}|--question|What is it?|--labels|cat,dog",
        f"embed|{photos}|--precision|int8|-o|{tmp_path}/v.npy",
    ]
    command = [sys.executable, "-c", code, *lines]
    result = subprocess.run(command, capture_output=True, text=True, env=fresh.environment, check=True)
    assert result.stderr == "[]\n" and result.stdout.count("input\t") == 3 * len(list((samples / "photos").iterdir()))
    said = [line for line in result.stdout.splitlines() if line.startswith("prompts\t")]
    assert said == ["prompts\tphoto", "prompts\tplain", "prompts\tquestion"]
    assert {path.name for path in tmp_path.glob("home/cache/cmprompt/*")} <= {"hashes"}
    assert not (tmp_path / "v.npy").exists()


def test_other_labels_on_the_same_folder_decode_nothing(crowd: Path, tmp_path: Path) -> None:
    from cmprompt import embed, load_encoder
    from cmprompt.embed import Stats
    from cmprompt.sources import read_items
    from cmprompt.store import Store

    store, encoder = Store(tmp_path / "store"), load_encoder("tiny")
    first, second = Stats(), Stats()
    for stats in (first, second):
        rows = sum(len(batch.items) for batch in embed(read_items([str(crowd)]), encoder, store, stats=stats))
        assert rows == 300
    assert (first.decoded, second.decoded, second.encoded) == (300, 0, 0)
