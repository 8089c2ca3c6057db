"""Which samples a step sees, in which view: what an epoch draws, in which order, and each process's share of a batch.

An epoch draws round(weight x n) of the n samples of a dataset, at least one: each of them as often as the others or
once more. Which are drawn once more is decided anew in every epoch, by the seed and the epoch alone.

Together, the processes see every batch as a single process would, each sample once. Therefore accelerate does not
prepare the loaders: it would fill up the last batch with samples already seen, and enlarge batches with every process.
"""

import functools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader, Dataset, Sampler

from magic_cli.config import Config
from magic_cli.errors import ConfigError, problem
from magic_cli.records import Sample
from magic_cli.training.permutation import Permutation, Places, WindowPermutation
from magic_cli.training.task_model import Batch, TaskModel
from magic_cli.training.workers import start_worker, waiting


@dataclass(frozen=True)
class Share:
    """The samples of one dataset, which follow those of the datasets before it, and its weight.

    `blocks` are numbers of samples that lie together, such as those of each shard; () for one block.
    """

    samples: int
    weight: float = 1.0
    blocks: Sequence[int] = ()

    @property
    def drawn(self) -> int:
        """How many an epoch draws; a sample that is drawn twice counts twice."""
        return max(1, round(self.weight * self.samples)) if self.samples else 0

    @property
    def drawn_blocks(self) -> list[int]:
        """The blocks of what an epoch draws: those of each pass over the dataset, and what is drawn once more."""
        times, more = divmod(self.drawn, max(1, self.samples))
        return [*[*(self.blocks or (self.samples,))] * times, more]


class Views(Dataset[tuple[Sample, int]]):
    """Samples with the view they are seen in: a fixed one, or one drawn per epoch from (seed, epoch, index).

    The length is that of an epoch. Index `i + k * len(samples)` is sample `i`, drawn for the k-th time after the first
    in an epoch, in a view of its own.
    """

    def __init__(
        self, samples: Sequence[Sample], seed: int, views: int = 1, view: int = 0, shares: Sequence[Share] = ()
    ) -> None:
        self.samples, self.seed, self.views, self.view, self.epoch = samples, seed, views, view, 0
        self.shares = shares or (Share(len(samples)),)

    def __len__(self) -> int:
        return sum(share.drawn for share in self.shares)

    def __getitem__(self, index: int) -> tuple[Sample, int]:
        sample = self.samples[index % len(self.samples)]
        if self.views == 1:
            return sample, self.view
        drawn = random.Random(f"{self.seed}/{self.epoch}/{index}")  # noqa: S311  not a secret
        return sample, drawn.randrange(self.views)

    def drawn(self) -> list[int]:
        """Return the indices that the epoch draws, dataset by dataset."""
        indices: list[int] = []
        first = 0
        for number, share in enumerate(self.shares):
            own = range(first, first + share.samples)
            times, more = divmod(share.drawn, max(1, share.samples))
            draw = random.Random(f"{self.seed}/{self.epoch}/share {number}")  # noqa: S311  not a secret
            for k, drawn in enumerate((*[own] * times, draw.sample(own, more))):
                indices += (index + k * len(self.samples) for index in drawn)
            first += share.samples
        return indices

    def drawn_at(self, places: Places) -> Places:
        """Return the indices at some of the places 0..len-1 of an epoch, dataset by dataset; none is stored.

        As `drawn`, with a choice of its own of the samples that are drawn once more.

        Args:
            places: (k,) int64.
        """
        indices = np.empty_like(places)
        first = start = 0
        for number, share in enumerate(self.shares):
            mine = (start <= places) & (places < start + share.drawn)
            times, found = np.divmod(places[mine] - start, max(1, share.samples))
            more = times == share.drawn // max(1, share.samples)
            found[more] = Permutation(share.samples, self.seed, self.epoch, f"share {number}")(found[more])
            indices[mine] = first + found + times * len(self.samples)
            first, start = first + share.samples, start + share.drawn
        return indices


class Batches(Sampler[list[int]]):
    """An epoch's batches of `size`, shuffled by the seed and the epoch alone; one update per `every` batches.

    Process `rank` of `processes` takes its share of each batch. `start` is the first batch of a resumed epoch.
    """

    def __init__(self, data: Views, size: int, every: int = 1, rank: int = 0, processes: int = 1) -> None:
        self.data, self.size, self.every, self.rank, self.processes = data, size, every, rank, processes
        self.start = 0

    @property
    def total(self) -> int:
        """Number of batches in a whole epoch."""
        return -(-len(self.data) // self.size)

    @property
    def updates(self) -> int:
        """Number of updates in a whole epoch; the last one may see fewer batches."""
        return -(-self.total // self.every)

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.data.seed * 100_003 + self.data.epoch)
        drawn = self.data.drawn()
        order = [drawn[place] for place in torch.randperm(len(drawn), generator=generator).tolist()]
        for first in range(self.start * self.size, len(order), self.size):
            batch = order[first : first + self.size]
            # Every process must contribute a gradient: one without a share takes a sample at weight 0.
            yield batch[self.rank :: self.processes] or batch[:1]

    def share(self, number: int) -> float:
        """Return the factor on this process's mean loss that makes the mean over processes that of batch `number`."""
        batch = self._samples(number, 1)
        return len(range(self.rank, batch, self.processes)) * self.processes / batch

    def weight(self, number: int) -> float:
        """Return the weight of batch `number` in its update: its fraction of the update's samples."""
        first = number // self.every * self.every
        return self._samples(number, 1) / self._samples(first, self.every)

    def closes(self, number: int) -> bool:
        """Return whether an update follows batch `number`."""
        return (number + 1) % self.every == 0 or number + 1 == self.total

    def _samples(self, first: int, batches: int) -> int:
        return min(len(self.data), self.total * self.size, (first + batches) * self.size) - first * self.size


class WholeBatches(Batches):
    """Batches that all have `size` samples, for losses that compare the samples of a batch with each other.

    What is left over at the end of an epoch, other samples in each, is not seen: a smaller batch has another loss, and
    one filled up with samples already seen has false negatives. Only a dataset smaller than a batch is one smaller
    batch. The order is computed (training/permutation.py), each process its own places of a batch, so that nothing
    grows with the number of samples, and more processes take less time each; the rest is as in `Batches`.
    """

    def __init__(
        self, data: Views, size: int, every: int = 1, rank: int = 0, processes: int = 1, window: int = 0
    ) -> None:
        """Choose the batches; `window` is how many blocks, such as shards, are shuffled together, 0 for all.

        Raises:
            ConfigError: a process would have no sample; one that is there twice in a batch is a false negative.
        """
        super().__init__(data, size, every, rank, processes)
        self.window = window
        if len(data) and min(size, len(data)) < processes:
            got = f"{size} for {len(data)} samples on {processes} processes"
            remedy = "use fewer processes" if size >= processes else f"--set batch_size={processes}, or more"
            raise ConfigError(problem("batch_size", got, "at least one sample for each process", remedy))

    @property
    def total(self) -> int:
        """Number of batches in a whole epoch."""
        return max(1, len(self.data) // self.size) if len(self.data) else 0

    def __iter__(self) -> Iterator[list[int]]:
        order, count = self._order(), len(self.data)
        for first in range(self.start * self.size, self.total * self.size, self.size):
            own = np.arange(first + self.rank, min(first + self.size, count), self.processes)
            yield self.data.drawn_at(order(own)).tolist()

    def _order(self) -> Callable[[Places], Places]:
        data = self.data
        if not self.window:
            return Permutation(len(data), data.seed, data.epoch)
        blocks = [block for share in data.shares for block in share.drawn_blocks]
        return WindowPermutation(blocks, self.window, data.seed, data.epoch)


class ClassBatches(WholeBatches):
    """Batches in which every class has the same number of samples, however rare it is, for losses that compare classes.

    Of more classes than `size` has room for, each batch has other ones. A class is gone through in an order of its own,
    begun again when it ends, so that all its samples come equally often. An epoch is as long as in `WholeBatches`.
    """

    def __init__(self, batches: WholeBatches, classes: Sequence[str], least: int) -> None:
        """Choose classes instead of samples; `classes` has one per sample, `least` is the fewest samples of each."""
        super().__init__(batches.data, batches.size, batches.every, batches.rank, batches.processes)
        self._members: dict[str, list[int]] = {}
        for index, name in enumerate(classes):
            self._members.setdefault(name, []).append(index)
        self._least = least

    def __iter__(self) -> Iterator[list[int]]:
        size = min(self.size, len(self.data))
        count = max(1, min(len(self._members), size // self._least))
        names = sorted(self._members)
        own = {name: self._endless(name) for name in names}
        draw = self._random("classes")
        chosen: list[str] = []
        for number in range(self.total):
            while len(chosen) < count:  # all classes in turn, each once in a batch
                chosen += [name for name in draw.sample(names, len(names)) if name not in chosen]
            batch_classes, chosen = chosen[:count], chosen[count:]
            batch = [next(own[batch_classes[place % count]]) for place in range(size)]
            if number >= self.start:
                yield batch[self.rank :: self.processes]

    def _endless(self, name: str) -> Iterator[int]:
        draw = self._random(f"class {name}")
        while True:
            yield from draw.sample(self._members[name], len(self._members[name]))

    def _random(self, purpose: str) -> random.Random:
        return random.Random(f"{self.data.seed}/{self.data.epoch}/{purpose}")  # noqa: S311  not a secret


def shared(count: int, size: int, rank: int, processes: int) -> list[list[int]]:
    """Return the batches of 0..count-1, in order, that a process predicts; dealt to the ranks in turn.

    Every process gets the same number of batches, so the last ones may be empty.
    """
    batches = [list(range(first, min(first + size, count))) for first in range(0, count, size)]
    return [*batches, *([[]] * (-len(batches) % processes))][rank::processes]


def loader_for(
    model: TaskModel, dataset: Views, config: Config, batches: Iterable[list[int]], cuda: bool
) -> DataLoader[tuple[Sample, int]]:
    """Return a loader of these batches of indices; on CUDA with pinned memory, for asynchronous copies."""
    return DataLoader(
        dataset,
        batch_sampler=batches,  # any iterable with a length works
        num_workers=config.workers,
        pin_memory=cuda,
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # the global one would change with each iterator, and resumed runs would differ
        collate_fn=functools.partial(_collate, model),
    )


@contextmanager
def batches_of(loader: DataLoader[tuple[Sample, int]], device: torch.device) -> Iterator[Iterator[Batch]]:
    """Yield an iterator over a loader's batches, on a device; after an error its workers are killed.

    A worker that hangs would not end by itself, and Python waits for its children before it exits.
    """
    source = iter(loader)
    try:
        yield to_device(source, device, loader.num_workers > 0)
    except BaseException:
        for worker in getattr(source, "_workers", ()):
            worker.kill()
        raise


def to_device(batches: Iterable[Batch], device: torch.device, has_workers: bool = False) -> Iterator[Batch]:
    """Yield batches on a device; copies from pinned memory do not block, but wait on the GPU for the step before."""
    source = iter(batches)
    while True:
        with waiting(has_workers):
            batch = next(source, None)
        if batch is None:
            return
        yield send_to_device(batch, device, non_blocking=True)


def _collate(model: TaskModel, pairs: Sequence[tuple[Sample, int]]) -> Batch:
    return model.collate([sample for sample, _ in pairs], [view for _, view in pairs])
