"""training/monitoring/outlook.py: what is said before, in and after the epochs of a training; times by a made clock."""

from pathlib import Path

import pytest
import torch
from clock import Clock

from magic_cli.io.progress import Status
from magic_cli.training.monitoring import outlook
from magic_cli.training.monitoring.outlook import Outlook, Plan

PLAN = Plan(4, 10, 2, 77, 8, 5, "dice", 0, Path("runs/seg/best.pt"), Path("runs/seg"))
CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(outlook.time, "monotonic", clock)
    return clock


def epoch(run: Outlook, clock: Clock, seconds: float, first: int = 0) -> None:
    for done in range(first + 1, run.plan.steps + 1):
        clock.now += seconds
        run.step(torch.tensor(0.5 * done), done)


def test_the_plan_says_what_comes_where_it_goes_and_how_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook.memory, "peak", lambda: 1_240_000_000)
    monkeypatch.setattr(outlook.memory, "total", lambda: 25_200_000_000)
    assert PLAN.lines(CPU) == [
        "plan: 4 epochs of 77 samples in 10 batches of 8; 20 updates in all",
        "  scored on 5 validation samples after each epoch; * is the best so far",
        "  best dice: runs/seg/best.pt",
        "  memory: 1.2 of 25 GB used at most; the time is measured in the first steps",
        "  Ctrl-C stops and saves; the same command with --resume goes on",
    ]
    alone = Plan(1, 3, 2, 5, 2, 0, "dice", 8, Path("seg/best.pt"), Path("seg/draft/run"))
    assert alone.lines(CPU)[:2] == [
        "plan: 1 epoch of 5 samples in 3 batches of 2; 2 updates in all",
        "  weights of the last epoch: seg/best.pt, until the run is complete in seg/draft/run",
    ]
    early = Plan(9, 3, 1, 5, 2, 4, "dice", 3, Path("best.pt"), Path())
    assert early.lines(CPU)[0].endswith("27 updates in all; it ends earlier after 3 epochs without a better score")


def test_times_are_measured_after_the_first_step_and_told_once(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook.memory, "peak", lambda: None)
    run = Outlook(PLAN, CPU)
    run.begin_epoch(0, 0, -float("inf"))
    assert (run.left, run.status()) == (None, Status())
    clock.now += 100  # the first step allocates, and does not count
    run.step(torch.tensor(0.5), 1)
    assert run.status() == Status("loss 0.500", None)
    for done in range(2, 11):
        clock.now += 2
        run.step(torch.tensor(0.5 * done), done)
        assert run.left == 2 * (40 - done)
    assert capsys.readouterr().err.splitlines() == [
        "about 70 s for 4 epochs (2 s a step, without scoring); memory unknown"
    ]
    clock.now += 6
    line = run.end_epoch(0.5, "dice 0.7000 *", 6.0)
    assert line == "epoch 1 of 4: training loss 0.5000 in 2 min; dice 0.7000 *, scored in 6 s; about 78 s left"


def test_a_resumed_epoch_and_pauses_between_epochs_are_not_steps(clock: Clock) -> None:
    run = Outlook(PLAN, CPU)
    run.begin_epoch(2, 4, 0.7)
    epoch(run, clock, 3, first=4)
    assert run.status() == Status("loss 0.500, best 0.700", 30)
    clock.now += 500
    run.end_epoch(0.5, "dice 0.6", 500)
    run.begin_epoch(3, 0, 0.7)
    epoch(run, clock, 3)
    assert run.left == pytest.approx(500)  # the last scoring is to come
    assert run.end_epoch(0.5, "dice 0.6", 1).endswith("scored in 1 s")


def test_a_training_that_is_over_at_once_tells_no_time(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run = Outlook(PLAN, CPU)
    run.begin_epoch(0, 0, None)
    epoch(run, clock, 0.4)
    assert capsys.readouterr().err == ""
    assert run.end_epoch(0.5, "", 0) == "epoch 1 of 4: training loss 0.5000 in 4 s; about 12 s left"
