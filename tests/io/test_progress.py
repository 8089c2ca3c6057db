"""io/progress.py: few lines where nobody watches, none for short work, a bar on a terminal; stdout stays clean."""

import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
from clock import Clock
from launchers import launch

from magic_cli.io import progress
from magic_cli.io.progress import Status, loading_torch, log, track


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
    *shown, last = lines(capsys)
    assert last == f"predicting: done in {progress.duration(count * seconds)}"
    assert 14 <= len(shown) <= 20
    percents = [int(re.findall(r"\((\d+) %\)", line)[0]) for line in shown]
    assert percents == sorted(percents)
    assert 90 <= percents[-1] < 100


def test_very_slow_work_prints_every_thirty_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    list(work(clock, 1000, 10))
    assert len(lines(capsys)) == 250  # the fourth item is the first after more than 30 s; the last line is the end


def test_lines_keep_a_second_of_distance(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    list(work(clock, 64, 0.125))  # 8 s: nothing in the first two, then a line for each second that is over
    shown = lines(capsys)
    assert shown[0] == "predicting: 17/64 (26 %), 6 s left"
    assert len(shown) == 7
    assert shown[-1] == "predicting: done in 8 s"


def test_eta(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    list(work(clock, 10, 3.0))
    shown = lines(capsys)
    assert shown[0] == "predicting: 1/10 (10 %), 27 s left"
    assert shown[4] == "predicting: 5/10 (50 %), 15 s left"


def test_the_run_is_told_beside_its_part(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """A part whose own line says how long it took leaves none."""
    left = iter([None, 1500.0, 7500.0])

    def status() -> Status:
        return Status("loss 0.814, best 0.643", next(left))

    for _ in track(range(4), "epoch 1/9", status=status, leaves_line=False):
        clock.now += 100
    assert lines(capsys) == [
        "epoch 1/9: 1/4 (25 %), 5 min left; loss 0.814, best 0.643",
        "epoch 1/9: 2/4 (50 %), 3 min left; run: about 25 min left; loss 0.814, best 0.643",
        "epoch 1/9: 3/4 (75 %), 2 min left; run: about 2 h 05 min left; loss 0.814, best 0.643",
    ]


def test_total_for_what_has_no_length(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(iter(range(4)), "x", total=4):
        clock.now += 5
    assert lines(capsys)[-1] == "x: done in 20 s"


def test_without_a_total_what_is_done_is_counted(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(iter(range(1500)), "rows"):
        clock.now += 1
    assert lines(capsys)[-2:] == ["rows: 1,488", "rows: done in 25 min"]


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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, status: Callable[[], Status] | None = None) -> str:
    """What a bar writes to a terminal of that width."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    assert list(track(range(3), "epoch 12/16", status=status)) == [0, 1, 2]
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())


def test_a_terminal_gets_a_bar_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(r"epoch 12/16 .*100% elapsed 0:00, left 0:00", on_terminal(monkeypatch, 80))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("columns", [80, 200])
def test_a_bar_fills_the_terminal_and_tells_of_the_run(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    shown = on_terminal(monkeypatch, columns, lambda: Status("loss 0.814, best 0.643", 1440))
    *_, last = (line for line in re.split(r"[\r\n]+", shown) if "100%" in line)
    assert last.rstrip().endswith("epoch left 0:00, run left 24 min, loss 0.814, best 0.643")
    assert last.startswith("epoch 12/16 ━")
    assert len(last) <= columns
    assert len(last) > columns - 8


def test_torch_is_announced_by_the_block_that_loads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "log_if_longer", lambda _, line: said.append(line) or nullcontext())
    monkeypatch.setitem(sys.modules, "torch", sys)
    with loading_torch():
        pass
    assert said == []
    monkeypatch.delitem(sys.modules, "torch")
    with loading_torch():
        pass
    assert said == ["loading torch ..."]


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
