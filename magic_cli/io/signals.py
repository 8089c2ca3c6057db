"""SIGINT, SIGTERM and SIGHUP: interrupt at once, or, while there is something to save, request a stop."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

# SIGHUP: the terminal is gone, for example after a lost connection; Windows does not have it
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_raised: list[int] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: an interruption that does not come from the keyboard."""


def raise_interrupt(number: int, _frame: FrameType | None) -> None:
    """Signal handler: raise KeyboardInterrupt for SIGINT, Terminated for other signals."""
    _raised.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def has_raised() -> bool:
    """Return whether a handler has raised; C++ and Rust code may turn that exception into an error of its own."""
    return bool(_raised)


def install_handlers() -> None:
    """Let all signals raise from now on; those that are ignored (nohup) stay ignored."""
    _raised.clear()
    _set(raise_interrupt)


def restore_defaults() -> None:
    """Let a signal end the process at once and without a message."""
    _set(signal.SIG_DFL)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let a signal end the process in a block of C++ code that waits, in which Python would never see the signal."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, signal.SIG_DFL) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _set(handler: Any) -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def redeliver_interrupt(unraisable: "sys.UnraisableHookArgs") -> None:
    """Hook: send SIGINT again in 20 ms if a finalizer swallowed a KeyboardInterrupt, which Python only prints."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))  # later: the finalizer is still running
        timer.daemon = True
        timer.start()
    else:
        sys.__unraisablehook__(unraisable)


_active: list["Interrupt"] = []


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first signal raise at once in a block that only waits, and an earlier request on entering it."""
    for interrupt in _active:
        interrupt.waits = True
    try:
        if any(interrupt.requested for interrupt in _active):
            raise KeyboardInterrupt
        yield
    finally:
        for interrupt in _active:
            interrupt.waits = False


class Interrupt:
    """Context in which the first signal only sets `requested`; a second one interrupts at once.

    While `waits` is true (`interruptible`), the first one does so, too.
    """

    def __init__(self) -> None:
        self.requested, self.waits = False, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            handled = [n for n in SIGNALS if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._request) for number in handled}
            _active.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self in _active:
            _active.remove(self)

    def _request(self, number: int, frame: FrameType | None) -> None:
        is_second, self.requested = self.requested, True
        if is_second or self.waits:
            raise_interrupt(number, frame)

    @staticmethod
    def ignore(_worker: int) -> None:
        """Ignore Ctrl-C in a data loader worker; the main process handles it."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
