"""A run that is killed, stopped, cut off or locked out: nothing is lost, nothing is written by halves."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cli

LABELS = ("--labels", "red,green,blue", "--batch-size", "4")


def wait_for_records(journal: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") > count:
            return
        time.sleep(0.005)


def stopped(cli: Cli, number: signal.Signals, crowd: Path, output: Path, *more: object) -> subprocess.Popen[bytes]:
    """A run that got `number` after some of its records."""
    process = cli.start("classify", crowd, *LABELS, "-o", output, *more)
    wait_for_records(output.with_name(output.name + ".journal"), random.randrange(1, 120), process)
    process.send_signal(number)
    return process


@pytest.fixture(scope="session")
def whole(cli: Cli, crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """The outputs of uninterrupted runs."""
    outputs = {}
    for ending in ("jsonl", "parquet"):
        path = tmp_path_factory.mktemp("whole") / f"out.{ending}"
        assert cli("classify", crowd, *LABELS, "-o", path, "--no-store").returncode == 0
        outputs[ending] = path.read_bytes()
    yield outputs


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("kept", [True, False], ids=["store", "no-store"])
def test_killed_and_resumed_gives_the_same_bytes(
    cli: Cli, crowd: Path, tmp_path: Path, whole: dict[str, bytes], ending: str, kept: bool
) -> None:
    output = tmp_path / f"out.{ending}"
    more = ("--store", tmp_path / "store") if kept else ("--no-store",)
    process = stopped(cli, signal.SIGKILL, crowd, output, *more)
    process.communicate()
    assert not output.exists()
    assert cli("classify", crowd, *LABELS, "-o", output, *more, "--resume").returncode == 0
    assert output.read_bytes() == whole[ending]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_a_batch_says_how_to_go_on(
    cli: Cli, crowd: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    output = tmp_path / "out.jsonl"
    process = stopped(cli, number, crowd, output, "--no-store")
    asked_s = time.monotonic()
    _, error = process.communicate(timeout=60)
    assert time.monotonic() - asked_s < 5
    assert process.returncode == status
    assert b"--resume" in error and b"Traceback" not in error
    assert not output.exists()


def test_a_finished_run_has_nothing_to_resume(cli: Cli, crowd: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.tsv"
    arguments = ("classify", crowd, *LABELS, "--limit", 9, "-o", output)
    assert cli(*arguments).returncode == 0
    before = output.stat().st_mtime_ns
    assert cli(*arguments, "--resume").returncode == 0
    assert output.stat().st_mtime_ns == before


def test_resume_refuses_other_labels(cli: Cli, crowd: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    stopped(cli, signal.SIGKILL, crowd, output, "--no-store").communicate()
    other = ("classify", crowd, "--labels", "red,black", "--batch-size", 4, "--no-store", "-o", output, "--resume")
    result = cli(*other)
    assert result.returncode == 2 and b"labels" in result.stderr


def test_a_reader_that_leaves_ends_the_run_quietly(cli: Cli, crowd: Path) -> None:
    process = cli.start("classify", crowd, *LABELS)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith(str(crowd).encode())
    process.stdout.close()
    with process.stderr:
        error = process.stderr.read()
    assert process.wait(60) == 0
    assert b"Traceback" not in error and b"Broken" not in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "command",
    ["prompts show everyday", "models list", "config show", "--help", "classify {} --labels red,green --limit 2 -q"],
)
def test_a_full_disk_under_standard_output_is_one_line(cli: Cli, crowd: Path, command: str) -> None:
    with open("/dev/full", "wb") as full:
        process = cli.start(*command.format(crowd).split(), stdout=full)
    _, error = process.communicate(timeout=300)
    assert (process.returncode, error) == (4, b"cmprompt: cannot write standard output: No space left on device\n")


def test_a_second_run_on_the_same_output_is_refused(cli: Cli, crowd: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    first = cli.start("classify", crowd, *LABELS, "--no-store", "-o", output)
    wait_for_records(tmp_path / "out.jsonl.journal", 1, first)
    first.send_signal(signal.SIGSTOP)
    second = cli("classify", crowd, *LABELS, "--no-store", "-o", output, "--overwrite")
    first.send_signal(signal.SIGCONT)
    first.communicate()
    assert second.returncode == 4 and b"out.jsonl" in second.stderr
    assert first.returncode == 0 and output.read_bytes().count(b"\n") == 300


def test_an_output_that_is_there_is_not_replaced(cli: Cli, crowd: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("mine")
    result = cli("classify", crowd, *LABELS, "-o", output)
    assert result.returncode == 4 and b"--overwrite" in result.stderr
    assert output.read_text() == "mine"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs more rights")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_under_the_output_keeps_the_old_one(cli: Cli, crowd: Path, small_disk: Path) -> None:
    output = small_disk / "out.jsonl"
    output.write_text("old")
    filler = small_disk / "filler"
    filler.write_bytes(bytes((1 << 20) - (24 << 10)))
    arguments = ("classify", crowd, *LABELS, "-o", output, "--overwrite")
    result = cli(*arguments)
    assert result.returncode == 4 and b"out.jsonl" in result.stderr and b"Traceback" not in result.stderr
    assert output.read_text() == "old"
    filler.unlink()
    assert cli(*arguments, "--resume").returncode == 0
    assert output.read_bytes().count(b"\n") == 300


def test_a_full_disk_under_the_store_is_named(cli: Cli, crowd: Path, small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "filler").write_bytes(bytes((1 << 20) - (100 << 10)))
    result = cli("classify", crowd, *LABELS, "--store", small_disk / "store", "-o", tmp_path / "out.jsonl")
    assert result.returncode == 4 and str(small_disk).encode() in result.stderr
    assert not (tmp_path / "out.jsonl").exists()
