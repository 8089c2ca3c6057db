"""__main__.py, and what it needs of others: signals while it loads and at its end, streams on a full disk."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from magic_cli import __main__ as program
from magic_cli.cli import app
from magic_cli.cli import app as cli
from magic_cli.io.signals import SIGNALS, Interrupt, Terminated, install_handlers

FULL = Path("/dev/full")
full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    handlers, hook = [signal.getsignal(number) for number in SIGNALS], sys.unraisablehook
    yield
    for number, handler in zip(SIGNALS, handlers, strict=True):
        signal.signal(number, handler)
    sys.unraisablehook = hook


def started() -> int:
    with pytest.raises(SystemExit) as ended:
        program.start()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interruption_while_it_loads_is_one_line(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(app, "main", lambda: signal.raise_signal(number))
    assert started() == 130
    assert capsys.readouterr() == ("", "interrupted\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interruption_before_typer_listens_is_an_end_like_any_other(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(app, "app", lambda **_: signal.raise_signal(number))
    monkeypatch.setattr(sys, "argv", ["magic", "doctor", "--json"])
    assert started() == 130
    out, err = capsys.readouterr()
    assert err == "interrupted; what was there before is kept, and nothing half done\n"
    assert '"exit_code": 130' in out


def test_a_signal_after_the_last_word_ends_it_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the shell does for jobs in the background
    monkeypatch.setattr(app, "main", lambda: None)
    monkeypatch.setattr(program, "exit_process", lambda code: sys.exit(7 + code))
    assert started() == 7
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("code", [0, 3])
def test_a_signal_between_the_last_word_and_the_end_changes_nothing(
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of a thousand kills came there, and showed a traceback."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    calls: list[int] = []

    def restore_defaults() -> None:
        calls.append(0)
        if len(calls) == 1:
            signal.raise_signal(number)

    monkeypatch.setattr(app, "main", lambda: sys.exit(code))
    monkeypatch.setattr(program, "restore_defaults", restore_defaults)
    assert started() == code
    assert len(calls) == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("number", SIGNALS)
def test_what_c_and_rust_make_of_an_interruption_is_one(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch.save broken off in its write says "unexpected pos"; safetensors raised a ValueError."""

    class Broken(io.BytesIO):
        def write(self, data: Any) -> int:
            writes.append(0)
            if len(writes) == 3:
                signal.raise_signal(number)
            return super().write(data)

    writes: list[int] = []

    def app(**_: object) -> None:
        torch.save({"a": torch.zeros(9)}, Broken())

    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["magic", "doctor"])
    install_handlers()
    with pytest.raises(RuntimeError, match="unexpected pos"):
        app()
    writes.clear()
    assert started() == 130
    assert capsys.readouterr().err == "interrupted; what was there before is kept, and nothing half done\n"


def test_an_error_after_the_interruption_of_an_earlier_command_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_handlers()
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
    monkeypatch.setattr(app, "app", lambda **_: 1 // 0)
    monkeypatch.setattr(sys, "argv", ["magic", "doctor"])
    assert started() == 1
    assert "unexpected ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("number", SIGNALS[1:])
def test_other_signals_are_told_from_a_ctrl_c(number: signal.Signals) -> None:
    install_handlers()
    with pytest.raises(Terminated):
        signal.raise_signal(number)


@pytest.mark.parametrize("number", SIGNALS[1:])
def test_what_is_ignored_stays_ignored(number: signal.Signals) -> None:
    """`nohup magic train seg`."""
    signal.signal(number, signal.SIG_IGN)
    install_handlers()
    with Interrupt() as interrupt:
        signal.raise_signal(number)
        assert not interrupt.requested
    assert signal.getsignal(number) == signal.SIG_IGN


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_is_a_wish_where_there_is_something_to_save(number: signal.Signals) -> None:
    install_handlers()
    with Interrupt() as interrupt:
        signal.raise_signal(number)
        assert interrupt.requested


SWALLOWED = """
import signal, sys, time
from magic_cli.io.signals import redeliver_interrupt
sys.unraisablehook = redeliver_interrupt
class Clean:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
clean = Clean()
del clean
try:
    print("went on")
    time.sleep(30)
except KeyboardInterrupt:
    print("stopped")
class Other:
    def __del__(self):
        raise ValueError("told")
other = Other()
del other
"""


def test_an_interruption_of_a_clean_up_comes_again(tmp_path: Path) -> None:
    """Python prints it and goes on; any other error there is printed as ever."""
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True, timeout=120)
    assert done.stdout == "went on\nstopped\n"
    assert "KeyboardInterrupt" not in done.stderr
    assert "ValueError: told" in done.stderr


def run(folder: Path, *words: str, **streams: Path) -> subprocess.CompletedProcess[str]:
    files = {name: path.open("w") for name, path in streams.items()}
    pipes = {name: files.get(name, subprocess.PIPE) for name in ("stdout", "stderr")}
    command = [sys.executable, "-m", "magic_cli", *words]
    done = subprocess.run(command, text=True, timeout=120, cwd=folder, env=os.environ | {"HOME": str(folder)}, **pipes)
    for file in files.values():
        file.close()
    return done


@full
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_result_that_cannot_be_printed(tmp_path: Path, more: list[str]) -> None:
    done = run(tmp_path, "doctor", *more, stdout=FULL)
    line = "error: stdout: cannot be written (No space left on device); free space, or send it elsewhere\n"
    assert (done.returncode, done.stderr) == (3, line)


@full
def test_a_log_that_cannot_be_written_costs_no_work(challenge: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "prepare", "--data", str(challenge), stderr=FULL)
    assert done.returncode == 0
    assert (tmp_path / "prepared" / "prepare.json").is_file()


@full
def test_neither_stream(tmp_path: Path) -> None:
    assert run(tmp_path, "prepare", "--data", "nowhere", stdout=FULL, stderr=FULL).returncode == 3
