"""The computed order of an epoch: a permutation of any size, uniform, without short cycles, the same from anywhere."""

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from magic_cli.errors import ConfigError
from magic_cli.records import Case, Sample
from magic_cli.training.loader import Share, Views, WholeBatches
from magic_cli.training.permutation import Permutation, WindowPermutation

LIKELY = 5.0  # standard deviations


def all_of(order: Permutation | WindowPermutation) -> list[int]:
    return order(np.arange(order.size)).tolist()


def excess(counts: np.ndarray, expected: float, freedom: int) -> float:
    """Return by how many standard deviations chi-square exceeds its mean."""
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 16, 17, 97, 1000, 1023, 65_537, 413_369])
def test_each_number_stands_at_one_place(size: int) -> None:
    found = Permutation(size, 3, 1)(np.arange(size))
    assert (np.sort(found) == np.arange(size)).all()


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 30])
def test_every_number_is_as_likely_at_every_place(size: int) -> None:
    rounds, counts = 1500, np.zeros((size, size))
    for epoch in range(rounds):
        counts[np.arange(size), all_of(Permutation(size, 0, epoch))] += 1
    assert excess(counts, rounds / size, (size - 1) ** 2) < LIKELY


@pytest.mark.parametrize("size", [3, 4])
def test_every_order_is_as_likely(size: int) -> None:
    seen = Counter(tuple(all_of(Permutation(size, seed, 5))) for seed in range(1500))
    counts = np.array([seen[order] for order in permutations(range(size))])
    assert excess(counts, 1500 / len(counts), len(counts) - 1) < LIKELY


def test_neighbours_are_spread_and_cycles_are_as_of_random_orders() -> None:
    """A random permutation of n has about ln n + 0.58 cycles, one fixed point, and steps of n / 3 on average."""
    size, cycles, fixed = 2000, [], []
    for seed in range(40):
        order = all_of(Permutation(size, seed, 0))
        fixed.append(sum(place == number for place, number in enumerate(order)))
        left, count = set(range(size)), 0
        while left:
            place, count = left.pop(), count + 1
            while (place := order[place]) in left:
                left.remove(place)
        cycles.append(count)
        assert np.abs(np.diff(order)).mean() == pytest.approx(size / 3, rel=0.1)
    assert np.mean(cycles) == pytest.approx(math.log(size) + 0.58, abs=1.7)  # 2.6 standard deviations of one, over 40
    assert np.mean(fixed) == pytest.approx(1, abs=0.8)


def test_orders_of_seeds_and_epochs_are_unrelated_and_places_are_checked() -> None:
    one, other = (np.array(all_of(Permutation(5000, *key))) for key in ((0, 1), (1, 0)))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.07
    assert (one == all_of(Permutation(5000, 0, 1))).all()
    huge = Permutation(2**40 + 7, 0, 0)
    assert len(set(huge(np.arange(1000)).tolist())) == 1000
    with pytest.raises(IndexError):
        huge(np.array([2**40 + 7]))


@pytest.mark.parametrize("window", [1, 2, 3, 100])
@pytest.mark.parametrize("blocks", [(5, 1, 0, 7, 12, 3), (4,), (0, 0, 3)])
def test_windows_mix_few_shards_at_a_time(window: int, blocks: tuple[int, ...]) -> None:
    order = WindowPermutation(blocks, window, 2, 0)
    found = all_of(order)
    assert sorted(found) == list(range(sum(blocks)))
    shard_of = [shard for shard, size in enumerate(blocks) for _ in range(size)]
    shards = list(dict.fromkeys(shard_of[number] for number in found))
    lasts = {shard_of[number]: place for place, number in enumerate(found)}
    for place, number in enumerate(found):  # no shard is begun while another is open, but for those of one window
        still = sum(lasts[shard] >= place for shard in shards[: shards.index(shard_of[number]) + 1])
        assert still <= window
    assert found[3:] == order(np.arange(3, order.size)).tolist()


def whole(count: int, size: int, *rank: int, shares: tuple[Share, ...] = (), window: int = 0) -> WholeBatches:
    case = Case("E", "train", ())
    views = Views([Sample(str(number), case, ()) for number in range(count)], 4, shares=shares)
    return WholeBatches(views, size, 1, *(rank or (0, 1)), window)


@pytest.mark.parametrize("window", [0, 1])
def test_whole_batches_drop_what_is_left_over_and_repeat_nothing(window: int) -> None:
    batches = whole(23, 5, window=window, shares=(Share(23, 1.0, (10, 13)),))
    seen = [index for batch in batches for index in batch]
    assert [len(batch) for batch in batches] == [5] * 4
    assert (len(batches), batches.updates) == (4, 4)
    assert len(set(seen)) == 20
    batches.data.epoch = 1
    assert set(seen) != {index for batch in batches for index in batch}
    assert {batches.share(number) * batches.weight(number) for number in range(4)} == {1.0}


def test_a_dataset_smaller_than_a_batch_is_one_smaller_batch() -> None:
    assert sorted(next(iter(whole(3, 5)))) == [0, 1, 2]
    assert (len(whole(3, 5)), len(whole(0, 5)), list(whole(0, 5))) == (1, 0, [])


@pytest.mark.parametrize(("count", "size", "said"), [(50, 6, "--set batch_size=8"), (5, 16, "fewer processes")])
def test_a_process_without_a_sample_is_refused(count: int, size: int, said: str) -> None:
    """It would have to repeat a sample of another one, a false negative."""
    with pytest.raises(ConfigError, match=f"batch_size: got {size} for {count} samples on 8 processes.*{said}"):
        whole(count, size, 7, 8)


@pytest.mark.parametrize("processes", [2, 3, 6])
def test_the_order_is_that_of_one_process_from_any_step_on(processes: int) -> None:
    one = list(whole(50, 6))
    parts = [whole(50, 6, rank, processes) for rank in range(processes)]
    for part in parts:
        part.start = 3
    for number, shares in enumerate(zip(*parts, strict=True), 3):
        counted = [i for share, p in zip(shares, parts, strict=True) if p.share(number) for i in share]
        assert sorted(counted) == sorted(one[number])


@pytest.mark.parametrize("window", [0, 1])
def test_weights_count_in_whole_batches(window: int) -> None:
    shares = (Share(4, 2.5), Share(10, 0.3), Share(3, 1.0, (1, 2)))
    batches = whole(17, 4, shares=shares, window=window)
    seen = [index for batch in batches for index in batch]
    assert len(set(seen)) == len(seen) == 16  # an index beyond the samples is one drawn again
    views = batches.data
    drawn = [views[index][0].id for index in views.drawn_at(np.arange(len(views))).tolist()]
    counts = Counter(map(int, drawn))
    assert [sum(counts[n] for n in part) for part in (range(4), range(4, 14), range(14, 17))] == [10, 3, 3]
    assert {counts[n] for n in range(4)} == {2, 3}
