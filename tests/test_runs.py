"""Headers, journals, locks: an output is whole or absent, and a stopped run goes on to the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import FakeEncoder

from cmprompt.atomic import replacing
from cmprompt.errors import OutputError, UsageError
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.zero_shot import zero_shot
from cmprompt.prompts import prompt_hash
from cmprompt.rule import Rule
from cmprompt.runs import OutputOptions, open_output
from cmprompt.runs.header import run_header
from cmprompt.signals import STOPS, Interrupted, stop_signals
from cmprompt.types import Features, Item, Prediction

HEADER = {"model": "m", "labels": ["cat"], "versions": {"cmprompt": "1"}}
FORMATS = ("jsonl", "tsv", "csv", "parquet", "table")


def items(n: int = 10) -> list[Item]:
    return [Item(f"{i}.jpg", None, columns={"price": str(i)}) for i in range(n)]


def decide(item: Item) -> Prediction:
    if item.id == "3.jpg":
        return Prediction(item, "missing", "no such file")
    return Prediction(item, label="cat", score=int(item.id[0]) / 7, cosine=0.25, margin=0.1, top=(("cat", 1 / 7),))


class Killed(BaseException):
    pass


def run(path: Path, fmt: str = "jsonl", *, stop_at: int | None = None, n: int = 10, header=HEADER, **more) -> list[str]:
    """One run; returns the ids it computed."""
    computed = []
    options = OutputOptions(fmt, keep_columns=True, header=True)
    with open_output(str(path), header, options, batch_size=2, **more) as output:
        if output.finished:
            return computed
        for item in output.remaining(items(n)):
            if len(computed) == stop_at:
                raise Killed
            computed.append(item.id)
            output.write(decide(item))
    return computed


def stopped(path: Path, fmt: str = "jsonl", stop_at: int = 5, **more) -> None:
    with pytest.raises(Killed):
        run(path, fmt, stop_at=stop_at, **more)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("stop_at", [0, 1, 4, 5, 9])
def test_a_resumed_run_gives_the_bytes_of_an_uninterrupted_one(tmp_path: Path, fmt: str, stop_at: int) -> None:
    run(tmp_path / "whole", fmt)
    stopped(tmp_path / "cut", fmt, stop_at)
    assert not (tmp_path / "cut").exists()
    computed = run(tmp_path / "cut", fmt, resume=True)
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()
    assert len(computed) <= 10 - stop_at + 1  # of batches of two, at most one again


def test_a_resumed_run_ends_its_row_groups_where_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmprompt.writers.parquet.ENTRIES_PER_GROUP", 3)
    run(tmp_path / "whole", "parquet")
    stopped(tmp_path / "cut", "parquet")
    run(tmp_path / "cut", "parquet", resume=True)
    assert pq.ParquetFile(tmp_path / "whole").num_row_groups == 3
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()


def test_nothing_but_output_and_sidecar_stays(tmp_path: Path) -> None:
    run(tmp_path / "a.jsonl")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "a.jsonl.run.json"]
    sidecar = json.loads((tmp_path / "a.jsonl.run.json").read_text())
    assert sidecar["records"] == 10
    assert sidecar["statuses"] == {"ok": 9, "missing": 1}
    assert sidecar["header"]["model"] == "m"


def test_resume_of_a_finished_run_does_nothing(tmp_path: Path) -> None:
    run(tmp_path / "a.jsonl")
    before = (tmp_path / "a.jsonl").stat()
    assert run(tmp_path / "a.jsonl", resume=True) == []
    assert (tmp_path / "a.jsonl").stat().st_mtime_ns == before.st_mtime_ns


def test_resume_without_a_journal_starts_afresh(tmp_path: Path) -> None:
    assert len(run(tmp_path / "a.jsonl", resume=True)) == 10


def test_an_existing_output_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("mine")
    for resume in (False, True):
        with pytest.raises(OutputError, match="--overwrite"):
            run(tmp_path / "a.jsonl", resume=resume)
    assert (tmp_path / "a.jsonl").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_overwrite_keeps_the_old_output_until_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("mine")
    stopped(tmp_path / "a.jsonl", overwrite=True)
    assert (tmp_path / "a.jsonl").read_text() == "mine"
    assert len(run(tmp_path / "a.jsonl", resume=True)) == 6
    assert "mine" not in (tmp_path / "a.jsonl").read_text()


def test_a_stopped_run_is_not_lost_by_accident(tmp_path: Path) -> None:
    stopped(tmp_path / "a.jsonl")
    with pytest.raises(OutputError, match=r"stopped after 4 records; --resume goes on"):
        run(tmp_path / "a.jsonl")
    assert len(run(tmp_path / "a.jsonl", overwrite=True)) == 10


@pytest.mark.parametrize("finished", [False, True])
def test_resume_refuses_another_run(tmp_path: Path, finished: bool) -> None:
    run(tmp_path / "a.jsonl") if finished else stopped(tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match="labels"):
        run(tmp_path / "a.jsonl", resume=True, header={**HEADER, "labels": ["dog"]})
    newer = {**HEADER, "versions": {"cmprompt": "2"}}
    run(tmp_path / "a.jsonl", resume=True, header=newer)


def test_resume_refuses_other_inputs(tmp_path: Path) -> None:
    stopped(tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match=r"inputs have changed.*'3\.jpg' was there, now nothing.*--files-from"):
        run(tmp_path / "a.jsonl", resume=True, n=3)


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_run_over_odd_names_goes_on(tmp_path: Path, fmt: str) -> None:
    odd = [os.fsdecode(b"caf\xe9"), "caf\ufffd", 'quote"', "back\\slash", "new\nline", "\U0001f600", "\ud800", "a"]

    def attempt(path: Path, names: list[str], resume: bool = False) -> None:
        with open_output(str(path), HEADER, OutputOptions(fmt), batch_size=1, resume=resume) as output:
            for item in output.remaining(Item(name, None) for name in names):
                if item.id == "stop":
                    raise Killed
                output.write(Prediction(item, label="cat", score=0.5))

    attempt(tmp_path / "whole", [*odd, "ab"])
    with pytest.raises(Killed):
        attempt(tmp_path / "cut", [*odd, "stop"])
    for place, name in enumerate(odd):  # one that looks like it, or begins as it does, is not it
        other = odd[1] if place == 0 else f"{name}b"
        with pytest.raises(UsageError, match="inputs have changed"):
            attempt(tmp_path / "cut", [*odd[:place], other], resume=True)
    attempt(tmp_path / "cut", [*odd, "ab"], resume=True)
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_torn_journal_is_cut_back_to_whole_batches(tmp_path: Path) -> None:
    run(tmp_path / "whole.jsonl")
    stopped(tmp_path / "a.jsonl")
    journal = tmp_path / "a.jsonl.journal"
    journal.write_bytes(journal.read_bytes()[:-20])
    run(tmp_path / "a.jsonl", resume=True)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_what_a_journal_has_behind_a_block_that_was_lost_is_cut_off(tmp_path: Path) -> None:
    run(tmp_path / "whole.jsonl")
    stopped(tmp_path / "a.jsonl", stop_at=9)
    journal = tmp_path / "a.jsonl.journal"
    data = journal.read_bytes()
    at = data.index(b'"5.jpg"') + 10
    journal.write_bytes(data[:at] + bytes(40) + data[at + 40 :])
    assert run(tmp_path / "a.jsonl", resume=True) == [f"{i}.jpg" for i in range(4, 10)]
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("foreign", [b"{}\n{}\n", b"[1]\n[1]\n", b"\n\n", b'{"id": "4.jpg"\n{"id": "5.jpg"\n'])
def test_foreign_lines_of_a_journal_are_cut_off(tmp_path: Path, foreign: bytes) -> None:
    stopped(tmp_path / "a.jsonl", stop_at=4)
    with open(tmp_path / "a.jsonl.journal", "ab") as journal:
        journal.write(foreign)
    assert run(tmp_path / "a.jsonl", resume=True) == [f"{i}.jpg" for i in range(4, 10)]


def test_records_of_many_labels_are_not_parsed_to_go_on_or_to_finish(tmp_path: Path) -> None:
    top = tuple((f"label {i}", 1 / (i + 1)) for i in range(1000))

    def attempt(stop_at: int | None = None, resume: bool = False) -> None:
        path = str(tmp_path / "a.jsonl")
        with open_output(path, HEADER, OutputOptions(), batch_size=1, resume=resume) as output:
            for item in output.remaining(Item(f"{i}.jpg", None) for i in range(301)):
                if item.id == f"{stop_at}.jpg":
                    raise Killed
                output.write(Prediction(item, label="cat", top=top))

    with pytest.raises(Killed):
        attempt(stop_at=300)
    started_s = time.process_time()
    attempt(resume=True)
    resumed_s = time.process_time() - started_s
    started_s = time.process_time()
    assert len([json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().splitlines()]) == 301
    assert resumed_s < time.process_time() - started_s


def test_a_journal_that_is_rubbish_starts_afresh(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.journal").write_bytes(b"\0\0\0\n{}\n")
    assert len(run(tmp_path / "a.jsonl", resume=True)) == 10


def test_the_second_run_with_the_same_output_refuses(tmp_path: Path) -> None:
    with open_output(str(tmp_path / "a.jsonl"), HEADER, OutputOptions()) as output:
        with (
            pytest.raises(OutputError, match="another run"),
            open_output(str(tmp_path / "a.jsonl"), HEADER, OutputOptions()),
        ):
            pass
        output.write(decide(items()[0]))
    assert (tmp_path / "a.jsonl").read_bytes().count(b"\n") == 1


def test_a_stale_lock_is_recovered(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.lock").touch()
    assert len(run(tmp_path / "a.jsonl")) == 10


def test_a_folder_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        run(tmp_path)
    with pytest.raises(OutputError, match=r"no folder .*/nowhere"):
        run(tmp_path / "nowhere" / "a.jsonl")


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jsonl").touch()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real" / "a.jsonl")
    run(tmp_path / "link.jsonl", overwrite=True)
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "real" / "a.jsonl").read_bytes().count(b"\n") == 11


def test_a_device_is_written_as_a_stream(tmp_path: Path) -> None:
    run(Path(os.devnull))
    with pytest.raises(OutputError, match="/dev/full"), open_output("/dev/full", HEADER, OutputOptions()) as output:
        for item in items() * 1000:
            output.write(decide(item))


def late() -> list[Prediction]:
    """A failure without columns, then rows that bring one each."""
    rows = [{}, {"price": "1"}, {"price": "2", "size": "L"}]
    return [Prediction(Item(f"{i}.jpg", None, columns=own), label="cat", score=0.5) for i, own in enumerate(rows)]


@pytest.mark.parametrize("fmt", ["tsv", "csv", "parquet"])
@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_a_file_has_the_columns_of_every_record(tmp_path: Path, fmt: str, stop_at: int) -> None:
    path, options = tmp_path / f"a.{fmt}", OutputOptions(fmt, header=True, keep_columns=True)
    with pytest.raises(Killed), open_output(str(path), HEADER, options, batch_size=1) as output:
        for prediction in late()[:stop_at]:
            output.write(prediction)
        raise Killed
    with open_output(str(path), HEADER, options, batch_size=1, resume=True) as output:
        rest = list(output.remaining(prediction.item for prediction in late()))
        for prediction in late()[len(late()) - len(rest) :]:
            output.write(prediction)
    if fmt == "parquet":
        rows = pq.read_table(path).to_pylist()
    else:
        lines = [line.split("\t" if fmt == "tsv" else ",") for line in path.read_text().splitlines()]
        rows = [dict(zip(lines[0], (cell or None for cell in line), strict=True)) for line in lines[1:]]
    assert [(row["price"], row["size"]) for row in rows] == [(None, None), ("1", None), ("2", "L")]


@pytest.mark.parametrize(("fmt", "notices"), [("tsv", 1), ("csv", 1), ("parquet", 1), ("jsonl", 0), ("table", 0)])
def test_a_stream_says_once_that_a_column_came_too_late(fmt: str, notices: int, capfdbinary) -> None:
    said: list[str] = []
    with open_output(None, HEADER, OutputOptions(fmt, keep_columns=True), say=said.append) as output:
        for prediction in late():
            output.write(prediction)
    assert len(said) == notices and all("'price' is left out" in line for line in said)


def test_errors_of_the_body_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), open_output(str(tmp_path / "a.jsonl"), HEADER, OutputOptions()):
        raise FileNotFoundError("not the output's fault")
    assert list(tmp_path.iterdir()) == []


CHILD = """
import sys, time
from cmprompt.runs import OutputOptions, open_output
from cmprompt.signals import stop_signals
from cmprompt.types import Item, Prediction
with stop_signals(), open_output(sys.argv[1], {}, OutputOptions(sys.argv[2]), resume=True, batch_size=7) as output:
    for item in output.remaining(Item(f"{i}.jpg", None) for i in range(5000)):
        number = int(item.id.partition(".")[0])
        output.write(Prediction(item, label="cat", score=1 / (number + 1)))
        if len(sys.argv) > 3 and number % 7 == 0: time.sleep(0.001)
"""


def child(path: Path, fmt: str = "parquet", *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(path), fmt, *more], stderr=subprocess.DEVNULL)


def wait_for_journal(path: Path, size: int) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    path = tmp_path_factory.mktemp("whole") / "a.parquet"
    with child(path) as process:
        assert process.wait(30) == 0
    yield path.read_bytes()


@pytest.mark.parametrize("size", [1, 20_000, 90_000])
def test_kill_and_resume(tmp_path: Path, size: int, whole: bytes) -> None:
    path = tmp_path / "a.parquet"
    with child(path, "parquet", "slowly") as process:
        wait_for_journal(tmp_path / "a.parquet.journal", size)
        process.kill()
    assert not path.exists()
    with child(path) as process:
        assert process.wait(30) == 0
    assert path.read_bytes() == whole


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_keeps_the_journal(tmp_path: Path, number: int) -> None:
    with child(tmp_path / "a.jsonl", "jsonl", "slowly") as process:
        wait_for_journal(tmp_path / "a.jsonl.journal", 5000)
        process.send_signal(number)
        assert process.wait(5) != 0
    assert (tmp_path / "a.jsonl.journal").stat().st_size >= 5000
    assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.parametrize("number", STOPS)
def test_stop_signals_raise_once_and_restore(number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, stop_signals():
        signal.raise_signal(number)
    assert caught.value.exit_status == 128 + number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_that_is_ignored_stays_so(number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_signals():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_equal_heads_have_equal_headers_and_others_differ(fake_encoder: FakeEncoder) -> None:
    weight = np.eye(2, 8, dtype=np.float32)
    one, same = (LinearHead(weight.copy(), ("a", "b"), "fake") for _ in range(2))
    same.cosines(Features.of_images(np.ones((1, 8), np.float32)))
    other = LinearHead(weight * 1.0001, ("a", "b"), "fake")
    hashes = [run_header(fake_encoder, head, Rule())["head_sha256"] for head in (one, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_header_names_what_made_the_records(fake_encoder: FakeEncoder) -> None:
    prompts = {"red": ("red",), "blue": ("blue",)}
    header = run_header(fake_encoder, zero_shot(fake_encoder, prompts), Rule(), prompts=prompts, inputs=["a.jpg"])
    assert header["model"] == "fake"
    assert header["labels"] == ["red", "blue"]
    assert header["prompt_hash"] == prompt_hash(prompts)
    assert {"cmprompt", "numpy", "pillow", "torch", "open_clip_torch"} <= set(header["versions"])
    json.dumps(header)


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
from cmprompt.errors import OutputError
from cmprompt.runs import OutputOptions, open_output
from cmprompt.types import Item, Prediction
try:
    with open_output(sys.argv[1], {}, OutputOptions(header=True), overwrite=True, resume=True, batch_size=7) as output:
        for item in output.remaining(Item(f"{i}.jpg", None) for i in range(500)):
            output.write(Prediction(item, label="cat", score=0.5))
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("journal_bytes", [10, 20_000, -100])
def test_where_no_more_can_be_written_the_old_output_stays(tmp_path: Path, journal_bytes: int) -> None:
    """No room for the journal's first line, for its middle, and for the output that is made of it."""

    def attempt(name: str, limit: int) -> str:
        command = [sys.executable, "-c", FULL, str(tmp_path / name), str(limit)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert attempt("whole.jsonl", 1 << 30) == ""
    whole = (tmp_path / "whole.jsonl").read_bytes()
    (tmp_path / "a.jsonl").write_text("old")
    limit = journal_bytes if journal_bytes > 0 else len(whole) + journal_bytes
    said = attempt("a.jsonl", limit)
    assert said.startswith(f"cannot write {tmp_path}/a.jsonl") and "File too large" in said
    assert (tmp_path / "a.jsonl").read_text() == "old"
    assert not list(tmp_path.glob(".*"))
    assert attempt("a.jsonl", 1 << 30) == ""
    assert (tmp_path / "a.jsonl").read_bytes() == whole


def test_files_beside_the_output_are_left_alone(tmp_path: Path) -> None:
    for name in ("a.jsonl.tmp", "a.jsonl.run.json.tmp"):
        (tmp_path / name).write_text("mine")
    run(tmp_path / "a.jsonl")
    assert {path.name: path.read_text() for path in tmp_path.glob("*.tmp")} == {
        "a.jsonl.tmp": "mine",
        "a.jsonl.run.json.tmp": "mine",
    }


def test_a_link_in_the_place_of_the_journal_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "a.jsonl.journal").symlink_to("mine")
    with pytest.raises(OutputError, match=r"cannot write .*a\.jsonl\.journal"):
        run(tmp_path / "a.jsonl")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("name", ["n" * 250, "\u732b" * 83], ids=["latin", "chinese"])
def test_a_file_may_have_a_name_as_long_as_names_are(name: str, tmp_path: Path) -> None:
    with replacing(tmp_path / name) as stream:
        stream.write(b"x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_two_that_replace_one_file_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with replacing(path) as first, replacing(path) as second:
        first.write(b"first")
        second.write(b"the second")
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]


def test_two_processes_never_write_one_output(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with child(path, "jsonl", "slowly") as first:
        wait_for_journal(tmp_path / "a.jsonl.journal", 1000)
        with pytest.raises(OutputError, match="another run"):
            run(path, overwrite=True)
        first.kill()
    assert run(path, overwrite=True)  # the killed one's lock is stale


TURNS = """
import sys
from pathlib import Path
from cmprompt.atomic import in_turn
count = Path(sys.argv[1])
for _ in range(50):
    with in_turn(count.with_name("lock")):
        count.write_text(str(int(count.read_text()) + 1))
"""


def test_one_at_a_time_is_let_in_though_each_removes_the_lock(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", TURNS, str(count)]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert count.read_text() == "200" and list(tmp_path.iterdir()) == [count]


@pytest.mark.parametrize("fmt", FORMATS)
def test_names_that_are_not_utf8_fit_in_header_and_sidecar(tmp_path: Path, fmt: str) -> None:
    odd = os.fsdecode(b"caf\xe9")
    header = {**HEADER, "inputs": [odd]}
    stopped(tmp_path / "a", fmt, header=header, argv=[odd])
    assert len(run(tmp_path / "a", fmt, header=header, argv=[odd], resume=True)) == 6
    assert json.loads((tmp_path / "a.run.json").read_bytes())["argv"] == [odd]
