"""The exact interval of a share, against scipy's beta distribution."""

import pytest
from scipy.stats import beta

from magic_cli.metrics.binomial import clopper_pearson


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (1, 1), (3, 20), (7, 10), (500, 1000), (999, 1000)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_it_is_scipys(successes: int, trials: int, level: float) -> None:
    tail = (1 - level) / 2
    low = beta.ppf(tail, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    assert clopper_pearson(successes, trials, level) == pytest.approx((low, high), abs=1e-9)


def test_nothing_is_known_without_trials() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5)])
def test_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="trials"):
        clopper_pearson(successes, trials)
