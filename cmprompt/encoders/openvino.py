"""A model's exported towers run by OpenVINO: the fast back end on a processor, and no torch."""

from __future__ import annotations

import os
import sys
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np

from cmprompt.encoders.devices import cpu_flags, has_native_bf16
from cmprompt.errors import ModelError
from cmprompt.types import Array

_core_lock = Lock()
_compiling = Lock()  # reading a kept graph sets the process's locale and sets it back, which two at once get wrong
HINTS = {"fp32": "f32", "bf16": "bf16"}


def runs_here(device: str, precision: str) -> bool:
    """Whether OpenVINO is installed, and computes on this device at this precision without emulating it."""
    able = precision in ("fp32", "int8") or (precision == "bf16" and has_native_bf16())
    return device == "cpu" and able and find_spec("openvino") is not None


def import_openvino() -> Any:
    """The package, its usage statistics left out: it takes what stands here for a library that is not installed."""
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def core() -> Any:
    """OpenVINO's Core, one for the process and kept for good.

    It gives the thread that first compiles with it a stack for signals, and takes the memory back in whichever thread
    drops the last reference: where that is another one, the next signal ends the process (SIGSEGV, not 130).
    """
    with _core_lock:
        return _core()


@cache
def _core() -> Any:
    ov = import_openvino()
    # Its tables of number types are filled at their first use, where two threads at once would wait for each other.
    np.array(ov.Tensor(np.zeros(1, np.float32)).data)
    return ov.Core()


def compiled_dir(tower: Path) -> Path:
    """Beside an exported tower, where what OpenVINO made of it for this processor is kept."""
    digest = sha256(" ".join(sorted(cpu_flags())).encode()).hexdigest()[:8]
    return tower.parent / f"compiled-{digest}"


def _kept_in(folder: Path) -> dict[str, str]:
    """Options that keep the compiled graph, less its weights: the next process has it in half the time.

    OpenVINO makes anew what is damaged, of another version or another tower.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return {}
    return {"CACHE_DIR": str(folder), "CACHE_MODE": "OPTIMIZE_SIZE"} if os.access(folder, os.W_OK) else {}


class Tower:
    """One exported tower, compiled. `streams` threads may run it at once, each on one core.

    Rows do not depend on each other, nor on which stream computes them, but the shape of a batch may matter.
    """

    def __init__(self, path: Path, precision: str, streams: int) -> None:
        """Raises ModelError where the tower cannot be loaded: another process may have removed it."""
        # A stream is one thread, as in torch.py. Pinned threads of two processes would meet on the same cores.
        options = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(streams),
            "ENABLE_CPU_PINNING": "NO",
            "ENABLE_HYPER_THREADING": "YES",
            **_kept_in(compiled_dir(path)),
        }
        with _compiling:
            try:
                compiled = core().compile_model(path, "CPU", options)
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:200]
                raise ModelError(
                    f"{path} cannot be loaded; run it again, or with --exact, which does without it: {reason}"
                ) from error
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            self._idle.put(compiled.create_infer_request())

    def __call__(self, inputs: Array) -> Array:
        """(N, ...) -> (N, D) float32, not normalised."""
        request = self._idle.get()
        try:
            rows: Array = request.infer({0: np.ascontiguousarray(inputs)}, share_inputs=True)[0]
        finally:
            self._idle.put(request)
        return rows
