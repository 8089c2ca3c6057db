"""io/progress.py: few lines where nobody watches, none for short work, a bar on a terminal; stdout stays clean."""

import io
import re
import sys
from collections.abc import Iterator

import pytest
from launchers import launch

from magic_cli.io import progress
from magic_cli.io.progress import log, track


class Clock:
    """time.monotonic() under the test's control."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def work(clock: Clock, count: int, seconds: float) -> Iterator[int]:
    """Items that each take `seconds` once they are handed out."""
    for item in track(range(count), "predicting"):
        clock.now += seconds
        yield item


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_log_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log("hello")
    assert lines(capsys) == ["hello"]


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_short_work_prints_nothing(clock: Clock, capsys: pytest.CaptureFixture[str], count: int) -> None:
    assert list(work(clock, count, 1.9 / max(count, 1))) == list(range(count))
    assert lines(capsys) == []


@pytest.mark.parametrize(("count", "seconds"), [(100, 0.3), (1000, 0.1), (997, 0.5), (20, 1.5), (100_000, 0.005)])
def test_long_work_prints_at_most_a_line_per_twentieth(
    clock: Clock, capsys: pytest.CaptureFixture[str], count: int, seconds: float
) -> None:
    assert list(work(clock, count, seconds)) == list(range(count))
    shown = lines(capsys)
    assert 15 <= len(shown) <= 20
    percents = [int(re.findall(r"\((\d+) %\)", line)[0]) for line in shown]
    assert percents == sorted(percents)
    assert percents[-1] >= 95


def test_very_slow_work_prints_every_thirty_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    list(work(clock, 1000, 10))
    assert len(lines(capsys)) == 250  # the fourth item is the first after more than 30 s


def test_lines_keep_a_second_of_distance(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    list(work(clock, 64, 0.125))  # 8 s: nothing in the first two, then a line for each second that is over
    shown = lines(capsys)
    assert shown[0] == "predicting: 17/64 (26 %), 6 s left"
    assert len(shown) == 6


def test_eta(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    list(work(clock, 10, 3.0))
    shown = lines(capsys)
    assert shown[0] == "predicting: 1/10 (10 %), 27 s left"
    assert shown[4] == "predicting: 5/10 (50 %), 15 s left"


def test_total_for_what_has_no_length(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(iter(range(4)), "x", total=4):
        clock.now += 5
    assert lines(capsys)[-1] == "x: 4/4 (100 %), 0 s left"


def test_without_a_total_what_is_done_is_counted(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(iter(range(1500)), "rows"):
        clock.now += 1
    assert lines(capsys)[-1] == "rows: 1,488"


def test_items_are_taken_one_by_one() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(5):
            taken.append(item)
            yield item

    tracked = track(items(), "x", total=5)
    assert taken == []
    next(tracked)
    assert taken == [0]


def test_a_terminal_gets_a_bar_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert list(track(range(3), "predicting")) == [0, 1, 2]
    assert re.search(r"predicting.*100%", terminal.getvalue())
    assert capsys.readouterr().out == ""


def test_only_the_first_of_several_processes_speaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(monkeypatch, 1)
    log("hello")
    assert list(track([1, 2], "work")) == [1, 2]
    assert capsys.readouterr().err == ""
    log("about this one", everywhere=True)
    assert capsys.readouterr().err == "about this one\n"
    launch(monkeypatch, 0)
    log("hello")
    assert capsys.readouterr().err == "hello\n"
