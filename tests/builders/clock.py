"""A clock that a test sets."""


class Clock:
    """time.monotonic() under the test's control."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
