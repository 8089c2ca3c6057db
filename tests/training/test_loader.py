"""Order, views and shares: what every process sees of an epoch, as numbers."""

import pytest

from magic_cli.records import Case, Sample
from magic_cli.training.loader import Batches, Views, shared


def data(count: int, seed: int = 0, views: int = 1) -> Views:
    encounter = Case("E", "test", (), {}, "", "")
    return Views([Sample(str(n), encounter, ()) for n in range(count)], seed, views)


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
