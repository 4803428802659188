"""`cmprompt doctor`: what this machine has, and what would run on it."""

from __future__ import annotations

from collections.abc import Iterator

from cmprompt.cli import options as o
from cmprompt.cli.notices import echo

PACKAGES = (
    "torch", "torchvision", "open-clip-torch", "openvino", "timm", "numpy", "pillow", "pyarrow", "scikit-learn",
    "safetensors", "huggingface-hub", "transformers", "pillow-heif",
)  # fmt: skip
FAST_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "bf16")


def command(model: o.Model = "auto", device: o.Device = "auto", precision: o.Precision = "auto") -> None:
    """Show versions, processors, caches, models: what would run.

    cmprompt doctor
    cmprompt doctor --model ViT-B-32-256
    """
    for title, lines in (
        ("versions", versions()),
        ("devices", devices()),
        ("caches", caches()),
        ("models here", models()),
        ("what would run", would_run(model, device, precision)),
    ):
        echo(title)
        for key, value in lines:
            echo(f"  {key:<22} {value}")


def versions() -> Iterator[tuple[str, str]]:
    """What is installed, told without importing it."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from cmprompt import __version__

    yield "cmprompt", __version__
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.release()} {platform.machine()}"
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"


def devices() -> Iterator[tuple[str, str]]:
    """The processor, its instruction sets, the accelerators, and the back ends that use them."""
    import os
    from importlib.util import find_spec

    import torch

    from cmprompt.encoders.devices import cpu_flags, has_native_bf16

    sets = [name for name in FAST_SETS if name in cpu_flags()]
    yield "cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
    yield "instruction sets", ", ".join(sets) or f"unknown; torch finds {torch.backends.cpu.get_cpu_capability()}"
    yield "bfloat16", "native" if has_native_bf16() else "emulated, so fp32 is used"
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        yield f"cuda:{index}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    yield "mps", "yes" if torch.backends.mps.is_available() else "no"
    yield "back ends", "openvino (on the cpu), torch" if find_spec("openvino") else "torch"


def caches() -> Iterator[tuple[str, str]]:
    """What is kept on disk, and how much."""
    from pathlib import Path

    from huggingface_hub.constants import HF_HUB_CACHE

    from cmprompt.encoders.export import exports_dir
    from cmprompt.hub import models_dir
    from cmprompt.store import default_store_dir

    for name, folder in (
        ("embeddings", default_store_dir()),
        ("models", models_dir()),
        ("weights", Path(HF_HUB_CACHE)),
        ("exported towers", exports_dir()),
    ):
        files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        yield name, f"{sum(path.stat().st_size for path in files) / 1e6:,.0f} MB in {folder}"


def models() -> Iterator[tuple[str, str]]:
    """The models that need no network."""
    from cmprompt.encoders.weights import TINY, read_folder
    from cmprompt.errors import ModelError
    from cmprompt.hub import pulled

    try:
        yield "tiny", str(read_folder(TINY).weights)
    except ModelError as error:
        yield "tiny", f"not usable: {error}"
    for checkpoint in pulled():
        yield checkpoint.name, f"revision {(checkpoint.revision or '?')[:12]} in {checkpoint.folder}"


def would_run(model: str, device: str, precision: str) -> Iterator[tuple[str, str]]:
    """What a run with these flags would use. Nothing is downloaded to find out."""
    from cmprompt.cli.dry_run import encoding_of
    from cmprompt.encoders import is_here, load_encoder
    from cmprompt.errors import CmpromptError

    try:
        if not is_here(model):
            yield "model", f"{model} would be downloaded first"
            return
        notes: list[str] = []
        encoder = load_encoder(model, device, precision, notices=notes.append)
    except CmpromptError as error:
        yield "nothing", str(error)
        return
    yield "model", encoder.model_id
    yield "as", encoding_of(encoder)
    yield "images", f"{encoder.preprocess.size_px} px, {encoder.preprocess.resize}, {encoder.preprocess.interpolation}"
    yield "texts", f"up to {encoder.context_length} tokens"
    for note in notes:
        yield "note", note
