"""The exact interval of a share: what counts of yes and no support, however few they are."""

import math
from collections.abc import Callable

_STEPS = 50  # of bisection: beyond the precision of what is shown


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share, in [0, 1] (Clopper and Pearson, Biometrika 1934); (0, 1) of no trials.

    It holds for independent draws, and is wide rather than too narrow for few of them.

    Args:
        successes: 0 to `trials`.
        trials: how often there was a chance.
        level: coverage in (0, 1).

    Raises:
        ValueError: there are more successes than trials, or less than none.

    >>> [round(end, 3) for end in clopper_pearson(7, 10)], clopper_pearson(0, 0)
    ([0.348, 0.933], (0.0, 1.0))
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else _where(lambda share: _at_least(successes, trials, share) < tail)
    high = 1.0 if successes == trials else _where(lambda share: _at_least(successes + 1, trials, share) < 1 - tail)
    return low, high


def _at_least(successes: int, trials: int, share: float) -> float:
    """Return the probability of so many successes or more, which grows with `share`."""
    if share in (0.0, 1.0):
        return float(successes == 0 or share == 1.0)
    chances = (
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(number + 1)
            - math.lgamma(trials - number + 1)
            + number * math.log(share)
            + (trials - number) * math.log1p(-share)
        )
        for number in range(successes, trials + 1)
    )
    return math.fsum(chances)


def _where(is_below: Callable[[float], bool]) -> float:
    """Return the share in [0, 1] below which `is_below` holds."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2
