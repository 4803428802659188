"""Which device and precision a run uses, told without importing torch where that can be."""

from __future__ import annotations

import ctypes.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cmprompt.errors import UsageError, unknown

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
_held: int | None = None


def hold_to(count: int | None) -> None:
    """Let this process work with so many threads at once from now on; None lets it have one for each core again."""
    global _held
    _held = count


def cores() -> int:
    """The processor cores that this process may use."""
    if _held:
        return _held
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def cpu_flags() -> frozenset[str]:
    """The processor's instruction sets as Linux names them; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    named = (line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(named, "").split())


def has_native_bf16() -> bool:
    """Elsewhere bfloat16 is emulated and slower than float32."""
    return bool(cpu_flags() & {"amx_bf16", "avx512_bf16"})


@contextmanager
def torch_threads(count: int | None = None) -> Iterator[None]:
    """Let torch share its products among so many threads meanwhile, by default one for each core; encoding leaves it
    with one for each stream. Small products are quickest with one: several wait for each other awake, for longer than
    the product takes, and longer yet where another process wants the core."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def blas_threads(count: int | None = None) -> Iterator[None]:
    """The same for numpy's and scipy's products; by default as many as they take by themselves, or as this process is
    held to. Each brings a library of its own, whose threads wait awake for the next product and take the core from the
    other's."""
    with _blas().limit(limits=count or _held, user_api="blas"):
        yield


@cache
def _blas() -> Any:
    import scipy.linalg  # noqa: F401 - its library is limited only if it is there already
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def pick_device(name: str) -> str:
    """`cpu`, `cuda` or `mps` (an index may follow: `cuda:1`). Raises UsageError for one that is not here."""
    kind = name.split(":")[0]
    if kind not in DEVICES:
        raise UsageError(unknown("device", name, DEVICES))
    if kind == "auto":
        return next((device for device in ("cuda", "mps") if _may_have(device) and _has(device)), "cpu")
    if kind != "cpu" and not _has(kind):
        raise UsageError(f"--device {name}: torch sees no such device here; use --device cpu or auto")
    return name


def pick_precision(name: str, device: str, exact: bool, *, small: bool = False) -> str:
    """One of PRECISIONS but `auto` for what was asked; `small` says that a processor runs the model in no time.

    Raises UsageError where the two do not go together.
    """
    if name not in PRECISIONS:
        raise UsageError(unknown("precision", name, PRECISIONS))
    if exact and name not in ("auto", "fp32"):
        raise UsageError(f"--exact computes in fp32, so --precision {name} does not go with it; leave one out")
    if name == "int8" and not (device == "cpu" and find_spec("openvino")):
        raise UsageError("--precision int8 is for processors that OpenVINO runs on; use auto, fp32 or bf16 here")
    if name == "fp16" and device == "cpu":
        raise UsageError("--precision fp16 needs a GPU; on a CPU use auto, bf16 or fp32")
    if name != "auto" or exact:
        return name if name != "auto" else "fp32"
    return "fp32" if small and device == "cpu" else fast_precision(device)


def fast_precision(device: str) -> str:
    """The quickest one whose vectors are as good as those of fp32."""
    if device == "cpu":
        return "bf16" if has_native_bf16() else "fp32"
    if device == "mps":
        return "fp32"
    import torch

    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def _may_have(device: str) -> bool:
    """A guess that costs no torch: without a driver there is no such device."""
    if device == "mps":
        return sys.platform == "darwin"
    if sys.platform == "win32":
        return ctypes.util.find_library("nvcuda") is not None
    return any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))  # NVIDIA, WSL, AMD


def _has(device: str) -> bool:
    import torch

    if device == "mps":
        return torch.backends.mps.is_available()
    return torch.cuda.is_available()
