"""io/durations.py: phases of a call, each second counted once."""

from contextlib import suppress

import pytest
from clock import Clock

from magic_cli.io import durations
from magic_cli.io.durations import phase, so_far, timed


def test_a_phase_inside_of_another_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(durations.time, "monotonic", clock)
    with timed() as call:
        clock.now += 1
        for _ in range(2):
            with phase("training"):
                clock.now += 10
                with phase("scoring"):
                    clock.now += 3
                    with phase("encoding"):
                        clock.now += 0.5
                clock.now += 1
        assert call.phases == {"training": 22, "scoring": 6, "encoding": 1}
        row = so_far(ended=True)
        assert row is not None
        assert (row["seconds"], row["phases"]) == (30, call.phases)
        begun = so_far(ended=False)
        assert begun is not None
        assert (begun["end"], begun["seconds"]) == (None, None)
    assert so_far(ended=True) is None


def test_a_phase_that_fails_has_its_time_and_one_without_a_call_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(durations.time, "monotonic", clock)
    with phase("training"):
        clock.now += 1
    with timed() as call:
        with suppress(ValueError), phase("training"):
            clock.now += 2
            raise ValueError
        assert call.phases == {"training": 2}
