"""SIGINT, SIGTERM and SIGHUP: an end at once, or, where there is something to save, a wish to stop soon."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

# SIGHUP: the terminal is gone, as when a connection breaks at night; Windows has none
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_raised: list[int] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: an interruption that nobody at the terminal typed."""


def terminate(number: int, _frame: FrameType | None) -> None:
    """Take a signal as Python takes Ctrl-C."""
    _raised.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def broken_off() -> bool:
    """Tell whether a signal has raised: C++ and Rust make an error of their own of what is raised in their midst."""
    return bool(_raised)


def listen() -> None:
    """Take all signals so from now on; what is ignored (nohup) stays ignored."""
    _raised.clear()
    _set(terminate)


def fall_silent() -> None:
    """Let a signal end the process at once, without a word."""
    _set(signal.SIG_DFL)


def _set(handler: Any) -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


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
            heard = [n for n in SIGNALS if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._request) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            terminate(number, frame)
        self.requested = True

    @staticmethod
    def ignore(_worker: int) -> None:
        """Leave the terminal's Ctrl-C to the main process: called in each data loader worker."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
