"""io/signals.py: real signals to this process: the first is a wish, the second is obeyed at once."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from magic_cli.io.signals import Interrupt

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def quiet(_number: int, _frame: object) -> None:
    """What stands for the handler of whoever calls us."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """No test may leave a handler behind, nor end this process by mistake."""
    before = [signal.signal(number, quiet) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_a_wish(number: signal.Signals) -> None:
    with Interrupt() as interrupt:
        assert not interrupt.requested
        signal.raise_signal(number)
        assert interrupt.requested
    assert [signal.getsignal(n) for n in SIGNALS] == [quiet, quiet]


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_second_signal_interrupts_and_handlers_come_back(first: signal.Signals, second: signal.Signals) -> None:
    def run() -> None:
        with Interrupt() as interrupt:
            signal.raise_signal(first)
            assert interrupt.requested
            signal.raise_signal(second)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert [signal.getsignal(n) for n in SIGNALS] == [quiet, quiet]


def test_a_signal_from_outside_arrives() -> None:
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            if interrupt.requested:
                break
        assert interrupt.requested


def test_handlers_come_back_after_an_error() -> None:
    def run() -> None:
        with Interrupt():
            assert quiet not in [signal.getsignal(n) for n in SIGNALS]
            raise ValueError

    with pytest.raises(ValueError):
        run()
    assert [signal.getsignal(n) for n in SIGNALS] == [quiet, quiet]


def test_each_entry_starts_without_a_wish() -> None:
    for _ in range(2):
        with Interrupt() as interrupt:
            assert not interrupt.requested
            signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    seen: list[object] = []

    def run() -> None:
        with Interrupt() as interrupt:
            seen.extend([interrupt.requested, *(signal.getsignal(n) for n in SIGNALS)])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False, quiet, quiet]


def test_a_data_loader_worker_leaves_ctrl_c_to_the_main_process() -> None:
    Interrupt.ignore(0)
    signal.raise_signal(signal.SIGINT)  # would raise or set something otherwise
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == quiet
