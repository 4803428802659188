"""Downloads, against a stand-in for the hub. Each runs in a process of its own: the hub's address is read at import."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from hub_server import HubServer, serve
from small_models import SMALL, save_model

from cmprompt import zoo
from cmprompt.encoders import find_checkpoint
from cmprompt.encoders.weights import TINY, read_folder
from cmprompt.hub import find_here, lay_out

REPO = "someone/small-clip"
NAME = f"hf-hub:{REPO}"
WEIGHTS = "open_clip_model.safetensors"
CHUNK = 10 * 2**20  # what the library writes at once
CUT = CHUNK + 2**20
# Large enough to be cut after one chunk.
CONFIG = {**SMALL, "text_cfg": {**SMALL["text_cfg"], "vocab_size": 49408, "width": 64}}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = save_model(tmp_path_factory.mktemp("remote"), CONFIG)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[HubServer]:
    with serve() as server:
        server.add(REPO, {**files, "README.md": b"not wanted", "open_clip_pytorch_model.bin": b"a pickle"})
        yield server


class Machine:
    """A machine whose home is `home`, and whose hub is `endpoint`."""

    def __init__(self, home: Path, endpoint: str) -> None:
        self.home = home
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_", "CMPROMPT_"))}
        self.environment = {**kept, "HOME": str(home), "HF_ENDPOINT": endpoint, "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "cmprompt", "models", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env={**self.environment, **environment}, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def folder(self) -> Path:
        (manifest,) = self.home.rglob("cmprompt-manifest.json")
        return manifest.parent

    def weights(self) -> Path:
        return self.folder() / WEIGHTS


@pytest.fixture
def machine(tmp_path: Path, hub: HubServer) -> Machine:
    return Machine(tmp_path / "home", hub.url)


def test_pull_brings_the_wanted_files_and_pins_them(machine: Machine, hub: HubServer, files: dict[str, bytes]) -> None:
    assert machine.run("pull", NAME)[0] == 0
    manifest = json.loads((machine.folder() / "cmprompt-manifest.json").read_text())
    assert manifest["revision"] == hub.repositories[REPO].main
    assert manifest["files"][WEIGHTS]["sha256"] == hashlib.sha256(files[WEIGHTS]).hexdigest()
    assert machine.weights().read_bytes() == files[WEIGHTS]
    assert not any(name in request for request in hub.requests for name in ("README", ".bin"))


def test_what_was_pulled_needs_no_network(machine: Machine, hub: HubServer) -> None:
    machine.run("pull", NAME)
    hub.requests.clear()
    status, out, _ = machine.run("info", NAME)
    assert status == 0 and str(machine.folder()) in out
    assert hub.requests == []


def test_a_dropped_connection_is_taken_up_where_it_broke(machine: Machine, hub: HubServer) -> None:
    hub.cut_after = [CUT]
    assert machine.run("pull", NAME)[0] == 0
    assert hub.ranges == [f"bytes={CHUNK}-"]


def test_a_killed_download_goes_on_in_the_next_process(machine: Machine, hub: HubServer) -> None:
    hub.cut_after, hub.stall = [CUT], Event()
    process = machine.start("pull", NAME)
    assert hub.stalled.wait(30)
    wait_for_part(machine.home)
    process.kill()
    process.communicate()
    hub.stall.set()
    assert machine.run("pull", NAME)[0] == 0
    assert hub.ranges == [f"bytes={CHUNK}-"]


def wait_for_part(home: Path) -> None:
    """The client writes what it has received in chunks."""
    wait_until(lambda: any(part.stat().st_size >= CHUNK for part in home.rglob("*.cmprompt-part")))


def wait_until(happened: Callable[[], bool]) -> None:
    """For half a minute at most."""
    for _ in range(300):
        if happened():
            return
        time.sleep(0.1)


def test_of_two_downloads_at_once_one_waits_for_the_other(
    machine: Machine, hub: HubServer, files: dict[str, bytes]
) -> None:
    hub.cut_after, hub.stall = [CUT], Event()
    first = machine.start("pull", NAME)
    assert hub.stalled.wait(30)
    hub.requests.clear()
    second = machine.start("pull", NAME)
    wait_until(lambda: f"GET api/models/{REPO}" in hub.requests)
    time.sleep(0.5)  # it would ask for the weights now
    hub.stall.set()
    for process in (first, second):
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert machine.weights().read_bytes() == files[WEIGHTS]
    assert hub.ranges == [f"bytes={CHUNK}-"] and sum("GET" in r and WEIGHTS in r for r in hub.requests) == 1
    assert not list(machine.home.rglob("*cmprompt-lock"))


def test_a_part_that_is_too_long_is_begun_anew(machine: Machine, hub: HubServer, files: dict[str, bytes]) -> None:
    blobs = machine.home / f".cache/huggingface/hub/models--{REPO.replace('/', '--')}/blobs"
    blobs.mkdir(parents=True)
    part = blobs / f"{hashlib.sha256(files[WEIGHTS]).hexdigest()}.cmprompt-part"
    part.write_bytes(files[WEIGHTS] + b"what another download wrote between")
    assert machine.run("pull", NAME)[0] == 0
    assert machine.weights().read_bytes() == files[WEIGHTS] and hub.ranges == [] and not part.exists()


def test_a_model_stays_whole_where_laying_it_out_again_fails(tmp_path: Path, files: dict[str, bytes]) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(files[WEIGHTS])
    model, config = zoo.find(NAME), json.loads(files["open_clip_config.json"])
    before = lay_out(tmp_path / "model", model, "1", config, {WEIGHTS: weights}, copy=True)
    with pytest.raises(OSError, match="gone"):
        lay_out(tmp_path / "model", model, "2", config, {WEIGHTS: tmp_path / "gone"}, copy=True)
    after = read_folder(tmp_path / "model")
    assert after == before and after.verified_hash() == hashlib.sha256(files[WEIGHTS]).hexdigest()
    assert len(list((tmp_path / "model").iterdir())) == 3


def test_a_corrupted_download_is_fetched_once_more(machine: Machine, hub: HubServer, files: dict[str, bytes]) -> None:
    hub.corrupt = 1
    assert machine.run("pull", NAME)[0] == 0
    assert machine.weights().read_bytes() == files[WEIGHTS]


def test_twice_corrupted_is_an_error_that_names_the_file(machine: Machine, hub: HubServer) -> None:
    hub.corrupt = 2
    status, _, err = machine.run("pull", NAME)
    assert status == 3 and WEIGHTS in err and "damaged" in err
    assert not list(machine.home.rglob(WEIGHTS))


@pytest.mark.parametrize("name", [WEIGHTS, "open_clip_config.json"])
def test_a_hash_that_is_none_leads_out_of_no_folder(
    machine: Machine, hub: HubServer, tmp_path: Path, name: str
) -> None:
    hub.told[name] = str(tmp_path / "elsewhere" / "file")
    status, _, err = machine.run("pull", NAME)
    assert status == 3 and name in err and "hash" in err and len(err.splitlines()) <= 2
    assert not (tmp_path / "elsewhere").exists()


def test_the_main_branch_moves_and_what_was_pulled_stays(machine: Machine, hub: HubServer) -> None:
    machine.run("pull", NAME)
    before = machine.weights().read_bytes()
    hub.add(REPO, {**hub.files(REPO, "main")[1], WEIGHTS: b"other weights"})  # type: ignore[index]
    assert machine.run("info", NAME)[0] == 0
    assert machine.weights().read_bytes() == before


def test_a_damaged_model_is_fetched_again_at_its_revision(machine: Machine, hub: HubServer) -> None:
    machine.run("pull", NAME)
    revision = hub.repositories[REPO].main
    flip_a_byte(machine.weights())
    hub.add(REPO, {**hub.files(REPO, "main")[1], WEIGHTS: b"other weights"})  # type: ignore[index]
    out = load(machine)
    assert "damaged" in out and f"revision {revision}" in out


def test_a_damaged_model_without_a_network_is_an_error(machine: Machine) -> None:
    machine.run("pull", NAME)
    flip_a_byte(machine.weights())
    out = load(machine, HF_HUB_OFFLINE="1")
    assert "ModelError" in out and WEIGHTS in out
    status, out, err = machine.run("verify")
    assert status == 3 and "damaged" in out and WEIGHTS in err


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.resolve().write_bytes(data)


def pinned(machine: Machine, pin: zoo.Pin, name: str = "ViT-B-32", repo: str = REPO) -> str:
    """What a process prints that pulls a model, were it pinned like that in a table of checkpoints."""
    script = (
        "from dataclasses import replace\n"
        "from cmprompt import hub, zoo\n"
        f"zoo.ZOO = (replace(zoo.find({name!r}), repo={repo!r}, pin=zoo.{pin!r}),)\n"
        f"try: here = hub.pull({name!r}); print(here.revision, here.weights)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    return subprocess.run(
        [sys.executable, "-c", script], env=machine.environment, capture_output=True, text=True, check=True
    ).stdout


def test_a_pinned_model_is_that_commit_s_file_of_that_hash(
    machine: Machine, hub: HubServer, files: dict[str, bytes]
) -> None:
    weights = files[WEIGHTS]
    commit = hub.add(REPO, {"another.safetensors": b"x", WEIGHTS: b"y", "converted.safetensors": weights})
    hub.add(REPO, {**files, WEIGHTS: b"the main branch has moved on"})
    assert commit in pinned(machine, zoo.Pin(commit, hashlib.sha256(weights).hexdigest()))
    assert machine.weights().read_bytes() == weights


def test_a_pinned_model_s_tokenizer_is_of_the_same_commit(machine: Machine, hub: HubServer) -> None:
    name = "ViT-B-16-SigLIP2-256"
    repo = zoo.find(name).repo
    commit = hub.add(repo, {WEIGHTS: b"weights", "tokenizer.json": b"of then"})
    hub.add(repo, {WEIGHTS: b"weights", "tokenizer.json": b"of now"})
    assert commit in pinned(machine, zoo.Pin(commit), name, repo)
    assert (machine.folder() / "tokenizer.json").read_bytes() == b"of then"


def test_other_bytes_than_the_pinned_ones_are_refused(machine: Machine, hub: HubServer) -> None:
    out = pinned(machine, zoo.Pin(hub.repositories[REPO].main, hashlib.sha256(b"expected").hexdigest()))
    assert out.startswith("ModelError") and "does not have the weights" in out and f"hf-hub:{REPO}" in out
    assert not any("resolve" in request for request in hub.requests)


def test_a_pinned_commit_that_is_gone_is_said(machine: Machine) -> None:
    out = pinned(machine, zoo.Pin("0" * 40, "0" * 64))
    assert out.startswith("ModelError the hub refuses ViT-B-32") and f"hf-hub:{REPO}" in out


def load(machine: Machine, **environment: str) -> str:
    """What a process that loads the encoder prints: its revision, or the error."""
    script = (
        "from cmprompt import load_encoder\n"
        f"try: print('revision', load_encoder({NAME!r}, notices=print).checkpoint.revision)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**machine.environment, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pull_to_a_folder_makes_a_local_dir(machine: Machine, tmp_path: Path, files: dict[str, bytes]) -> None:
    assert machine.run("pull", NAME, "--to", str(tmp_path / "here"))[0] == 0
    assert not (tmp_path / "here" / WEIGHTS).is_symlink()
    assert read_folder(tmp_path / "here").verified_hash() == hashlib.sha256(files[WEIGHTS]).hexdigest()


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_offline_with_nothing_here_says_what_works(machine: Machine, environment: dict[str, str]) -> None:
    started = time.monotonic()
    status, _, err = machine.run("pull", "ViT-B-32-256", **environment)
    assert time.monotonic() - started - starting_s(machine) < 5
    assert status == 3 and "models pull ViT-B-32-256" in err and "tiny" in err and "local-dir:" in err


def test_a_hub_that_never_answers_is_given_up_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        status, silent_s = pulled(tmp_path, port)
    _, refused_s = pulled(tmp_path, port)  # closed by now: what a process costs here is not the waiting's fault
    assert status == 3 and silent_s - refused_s < 5


def pulled(folder: Path, port: int) -> tuple[int, float]:
    """Exit status and seconds of a download from a port of this machine."""
    started = time.monotonic()
    status, _, _ = Machine(folder, f"http://127.0.0.1:{port}").run("pull", "ViT-B-32-256")
    return status, time.monotonic() - started


def starting_s(machine: Machine) -> float:
    """What a process costs here before it does anything: a busy machine is not the model's fault."""
    started = time.monotonic()
    machine.run("info", "ViT-B-32-256")
    return time.monotonic() - started


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> Path:
    """Weights that another tool left in the Hugging Face cache, as one of the recommended model's repository."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    repository = tmp_path / "hf" / "hub" / "models--laion--CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"
    blob = repository / "blobs" / hashlib.sha256(files[WEIGHTS]).hexdigest()
    link = repository / "snapshots" / "0123abc" / WEIGHTS
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    blob.write_bytes(files[WEIGHTS])
    link.symlink_to(blob)
    return link


def pin(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    """Make these the recommended model's."""
    published = zoo.Pin("0" * 40, weights.resolve().name)
    monkeypatch.setattr(zoo, "ZOO", (replace(zoo.find("ViT-B-32-256"), pin=published),))


def test_weights_that_another_tool_downloaded_are_found(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_here("ViT-B-32-256") is None  # other weights than the pinned ones
    pin(monkeypatch, elsewhere)
    here = find_here("ViT-B-32-256")
    assert here is not None and here.revision == "0123abc" and here.preprocess.size_px == 256
    elsewhere.unlink()
    assert find_here("ViT-B-32-256") == here  # its folder leads to the blob


def test_weights_that_another_tool_downloaded_need_a_cache_that_can_be_written(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, elsewhere)
    (tmp_path / "cache").write_text("a file")
    said: list[str] = []
    assert find_checkpoint("auto", notices=said.append).folder == TINY
    assert len(said) == 2 and "cannot be written" in said[0] and str(tmp_path / "cache") in said[0]
    assert find_here("ViT-B-32-256") is None


def test_a_pull_into_a_cache_that_cannot_be_written_names_it(machine: Machine, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file")
    status, _, err = machine.run("pull", NAME, XDG_CACHE_HOME=str(cache), HF_HOME=str(tmp_path / "hf"))
    assert status == 4 and f"cannot write {cache}" in err and "Traceback" not in err


def test_an_unknown_repository_is_refused(machine: Machine) -> None:
    status, _, err = machine.run("pull", "hf-hub:someone/else")
    assert status == 3 and "someone/else" in err


def test_only_a_pickle_is_not_downloaded(machine: Machine, hub: HubServer) -> None:
    hub.add("someone/pickled", {"open_clip_config.json": b"{}", "open_clip_pytorch_model.bin": b"x"})
    status, _, err = machine.run("pull", "hf-hub:someone/pickled")
    assert status == 3 and "models convert" in err
    assert not any("resolve" in request for request in hub.requests)


def test_non_commercial_weights_need_their_licence_accepted(machine: Machine, hub: HubServer) -> None:
    status, _, err = machine.run("pull", "MobileCLIP2-S0")
    assert status == 2 and "--accept-licence" in err
    assert hub.requests == []


def test_the_token_goes_to_the_hub(machine: Machine, hub: HubServer) -> None:
    assert machine.run("pull", NAME, HF_TOKEN="hf_secret")[0] == 0
    assert "Bearer hf_secret" in hub.tokens


def test_timm_weights_come_from_the_hub_and_then_from_the_cache(tmp_path: Path, hub: HubServer) -> None:
    import numpy as np
    import timm
    from safetensors.torch import save

    network = timm.create_model("test_resnet", num_classes=1000)
    hub.add("timm/test_resnet.r160_in1k", {"model.safetensors": save(network.state_dict())})
    shown = (
        "import numpy as np\n"
        "from cmprompt.encoders.timm import TimmImages\n"
        "encoder = TimmImages('test_resnet', 'cpu')\n"
        "encoder.encode_raw(np.arange(3 * 160 * 160, dtype=np.uint8).reshape(1, 3, 160, 160)).tofile('rows')\n"
        "encoder.model.conv1[0].weight.numpy().tofile('first')\n"
    )
    environment = Machine(tmp_path / "home", hub.url).environment
    subprocess.run([sys.executable, "-c", shown], env=environment, cwd=tmp_path, check=True)
    assert (tmp_path / "first").read_bytes() == network.conv1[0].weight.detach().numpy().tobytes()
    rows = np.fromfile(tmp_path / "rows", np.float32)
    asked = len(hub.requests)
    assert asked > 0
    subprocess.run([sys.executable, "-c", shown], env=environment, cwd=tmp_path, check=True)
    assert np.allclose(np.fromfile(tmp_path / "rows", np.float32), rows, atol=1e-5)
    assert len(hub.requests) == asked


def test_timm_weights_without_a_network_are_refused_at_once(tmp_path: Path, table: Path) -> None:
    environment = Machine(tmp_path / "home", "http://127.0.0.1:9").environment
    command = [sys.executable, "-m", "cmprompt", "finetune", str(table)]
    seconds = []
    for network in ("resnet50", "resnet50/random/8x"):  # the second is refused by its name alone
        started = time.monotonic()
        found = subprocess.run(
            [*command, "--image-encoder", f"timm:{network}"], env=environment, capture_output=True, text=True
        )
        seconds.append(time.monotonic() - started)
        if network == "resnet50":
            assert found.returncode == 3
            assert "cannot be reached" in found.stderr and "timm:resnet50/random" in found.stderr
    assert seconds[0] - seconds[1] < 5
