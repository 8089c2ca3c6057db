"""SIGINT and SIGTERM: an end at once, or, where there is something to save, a wish to stop soon."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM: an interruption that a program sent, not somebody at the terminal."""


def terminate(_number: int, _frame: FrameType | None) -> None:
    """Take SIGTERM as Python takes Ctrl-C."""
    raise Terminated


def unheard(unraisable: "sys.UnraisableHookArgs") -> None:
    """Take the interruption of a clean-up, which Python only prints, as one that comes a moment later."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        again = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))  # not now: this is a part of the clean-up
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(unraisable)


class Interrupt:
    """While entered, the first signal sets `requested`; a second one interrupts at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @staticmethod
    def ignore(_worker: int) -> None:
        """Leave the terminal's Ctrl-C to the main process: called in each data loader worker."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
