"""Order, views and shares: what every process sees of an epoch, as numbers."""

from collections import Counter

import pytest
import torch

from magic_cli.records import Case, Sample
from magic_cli.training.loader import Batches, Share, Views, shared


def data(count: int, seed: int = 0, views: int = 1, shares: tuple[Share, ...] = ()) -> Views:
    encounter = Case("E", "test", (), {}, "", "")
    return Views([Sample(str(n), encounter, ()) for n in range(count)], seed, views, shares=shares)


def test_views_depend_on_seed_epoch_and_index_alone() -> None:
    one, other = data(50, views=4), data(50, views=4)
    drawn = [one[i][1] for i in range(50)]
    assert drawn == [other[i][1] for i in reversed(range(50))][::-1]
    assert set(drawn) == {0, 1, 2, 3}
    one.epoch = 1
    assert drawn != [one[i][1] for i in range(50)]


def test_order_is_a_permutation_of_the_epoch() -> None:
    views = data(20, seed=3)
    batches = Batches(views, 4)
    first = [i for batch in batches for i in batch]
    assert sorted(first) == list(range(20))
    assert first == [i for batch in Batches(views, 4) for i in batch]
    views.epoch = 1
    assert first != [i for batch in batches for i in batch]


@pytest.mark.parametrize("shares", [(), (Share(20),), (Share(12), Share(8))])
def test_without_weights_the_order_is_that_of_the_seed_and_the_epoch(shares: tuple[Share, ...]) -> None:
    """As it was before datasets had weights: a run on one dataset gives the same bytes as before."""
    views = data(20, seed=3, shares=shares)
    views.epoch = 2
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3 * 100_003 + 2)).tolist()
    assert [i for batch in Batches(views, 4) for i in batch] == order


def test_weights_say_how_often_an_epoch_draws_a_sample() -> None:
    """Of each dataset round(weight x n): every sample as often as the others or once more, others in each epoch."""
    shares = (Share(4, 2.5), Share(10, 0.3), Share(3, 0.01), Share(2, 1.0))
    views, again = (data(19, seed=5, views=1000, shares=shares) for _ in range(2))
    batches, counts = Batches(views, 4), []
    for epoch in range(2):
        views.epoch = again.epoch = epoch
        order = [i for batch in batches for i in batch]
        assert order == [i for batch in Batches(again, 4) for i in batch]
        assert len(order) == len(views) == 10 + 3 + 1 + 2
        assert batches.total == 4
        assert len(set(order)) == len(order)  # a sample that is drawn again is seen in another view
        seen = [views[i][0].id for i in order]
        assert len({views[i][1] for i in order}) > 10
        counts.append(Counter(int(name) for name in seen))
        of = [[counts[-1][n] for n in part] for part in (range(4), range(4, 14), range(14, 17), range(17, 19))]
        assert list(map(sum, of)) == [10, 3, 1, 2]
        assert set(of[0]) == {2, 3}
        assert set(of[1]) == {0, 1}
        assert of[3] == [1, 1]
    assert counts[0] != counts[1]


def test_processes_share_what_weights_draw() -> None:
    shares = (Share(3, 2.4), Share(4, 0.5))
    one, many = Batches(data(7, shares=shares), 4), [Batches(data(7, shares=shares), 4, 1, r, 2) for r in (0, 1)]
    for number, (batch, *parts) in enumerate(zip(one, *many, strict=True)):
        counted = [i for part, b in zip(parts, many, strict=True) if b.share(number) for i in part]
        assert sorted(counted) == sorted(batch)


def test_a_resumed_epoch_goes_on_where_it_stopped() -> None:
    whole, part = Batches(data(11), 3), Batches(data(11), 3)
    part.start = 2
    assert list(part) == list(whole)[2:]
    assert (len(part), len(whole), part.total) == (2, 4, 4)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 11])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_together_see_each_batch_of_one_process_once(count: int, processes: int) -> None:
    """By weight: a process that a batch has no sample for takes one of others, which must not count."""
    one = Batches(data(count), 4)
    many = [Batches(data(count), 4, rank=rank, processes=processes) for rank in range(processes)]
    assert {len(part) for part in many} == {len(one)}
    for number, (batch, *parts) in enumerate(zip(one, *many, strict=True)):
        counted = [i for part, b in zip(parts, many, strict=True) if b.share(number) for i in part]
        assert sorted(counted) == sorted(batch)
        means = [b.share(number) * sum(part) / len(part) for part, b in zip(parts, many, strict=True)]
        assert sum(means) / processes == pytest.approx(sum(batch) / len(batch))


@pytest.mark.parametrize(("count", "every", "updates"), [(12, 1, 3), (13, 2, 2), (13, 3, 2), (3, 3, 1)])
def test_accumulated_batches_weigh_as_one_large_batch(count: int, every: int, updates: int) -> None:
    batches, large = Batches(data(count), 4, every), Batches(data(count), 4 * every)
    assert batches.updates == updates == len(large)
    sums, found = [], 0.0
    for number, batch in enumerate(batches):
        found += batches.weight(number) * sum(batch) / len(batch)
        if batches.closes(number):
            sums, found = [*sums, found], 0.0
    assert sums == pytest.approx([sum(batch) / len(batch) for batch in large])


def test_one_process_with_one_batch_an_update_is_left_as_it_is() -> None:
    batches = Batches(data(7), 3)
    assert {batches.share(n) * batches.weight(n) for n in range(3)} == {1.0}


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_prediction_is_shared_in_order_without_loss(count: int, processes: int) -> None:
    parts = [shared(count, 4, rank, processes) for rank in range(processes)]
    rounds = list(zip(*parts, strict=True))
    assert [i for batches in rounds for batch in batches for i in batch] == list(range(count))
