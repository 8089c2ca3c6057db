"""How long a call took and each of its phases, such as encoding, training and scoring, for run.json."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass
class Durations:
    """The clock of one call.

    Attributes:
        begun: when the call began.
        at: the same on the monotonic clock, in seconds.
        phases: seconds by the name of a phase, in the order in which they were first entered.
        inner: seconds of phases inside of the one that runs, which are not its own.
    """

    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    at: float = field(default_factory=lambda: time.monotonic())
    phases: dict[str, float] = field(default_factory=dict)
    inner: float = 0.0

    def to_json(self, ended: bool) -> dict[str, object]:
        """Return `times` of schemas/run.schema.json; a call that has not ended has neither end nor seconds."""
        now = datetime.now(UTC).isoformat(timespec="seconds") if ended else None
        return {
            "start": self.begun.isoformat(timespec="seconds"),
            "end": now,
            "seconds": round(time.monotonic() - self.at, 1) if ended else None,
            "phases": {name: round(seconds, 1) for name, seconds in self.phases.items()},
        }


_RUNNING: ContextVar[Durations | None] = ContextVar("durations", default=None)


@contextmanager
def timed() -> Iterator[Durations]:
    """Time the call in this block."""
    found = Durations()
    token = _RUNNING.set(found)
    try:
        yield found
    finally:
        _RUNNING.reset(token)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Add the time of this block to a phase of the call that runs; a phase inside of it counts for itself alone."""
    clock = _RUNNING.get()
    if clock is None:  # a part that was called by itself
        yield
        return
    outer, clock.inner, start = clock.inner, 0.0, time.monotonic()
    clock.phases.setdefault(name, 0.0)
    try:
        yield
    finally:
        spent = time.monotonic() - start
        clock.phases[name] += spent - clock.inner
        clock.inner = outer + spent


def so_far(ended: bool) -> dict[str, object] | None:
    """Return `times` of the call that runs, as `Durations.to_json`; None outside of one."""
    clock = _RUNNING.get()
    return None if clock is None else clock.to_json(ended)
