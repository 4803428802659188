"""SIGHUP, SIGINT and SIGTERM as one exception, so that what is half done is put away before the process ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = [getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGTERM") if hasattr(signal, name)]
EXIT_STATUSES = [128 + number for number in STOPS]  # what the shell expects: 129, 130, 143


class Interrupted(BaseException):
    """One of them arrived. `exit_status` is one of `EXIT_STATUSES`. Its notes are for the user."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number


@contextmanager
def stop_signals() -> Iterator[None]:
    """Within, the first of the signals raises Interrupted; the second ends the process at once.

    What is ignored stays so, as nohup has it of SIGHUP and a shell's script of SIGINT for what runs behind it.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        for one in previous:
            signal.signal(one, signal.SIG_DFL)
        raise Interrupted(number)

    heeded = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
