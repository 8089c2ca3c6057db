"""The samples of a run: what is trained on and what is validated on, dataset by dataset, groups never divided."""

import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from magic_cli.config import Config
from magic_cli.data.datasets import Dataset, digest_of
from magic_cli.data.gold import TaskGold
from magic_cli.data.lazy_samples import LazySamples, chained
from magic_cli.data.prepared import Prepared
from magic_cli.data.prepared_stamps import PreparedStamps
from magic_cli.data.questions import QuestionSchema
from magic_cli.errors import DataError, EmptySplit, shorten
from magic_cli.io.progress import log
from magic_cli.records import Sample
from magic_cli.training.seen import Seen
from magic_cli.training.task import Task


@dataclass(frozen=True)
class Part:
    """The samples of one dataset of a run.

    Without `valid` no epoch can be chosen: all epochs are trained, and the last weights are saved.

    Attributes:
        train: samples to learn from.
        valid: samples to validate on, and `gold` what they are scored against.
        gold: as above.
        name: the dataset's, "" for the only one.
        weight: how often an epoch draws each training sample, on average (training/loader.py).
    """

    train: Sequence[Sample]
    valid: Sequence[Sample]
    gold: TaskGold
    name: str = ""
    weight: float = 1.0


@dataclass(frozen=True)
class Data:
    """Training and validation data of a run: one part per dataset.

    Ids may be the same in several parts: each is scored by itself. `sha256` stands for all datasets, `stamps` are
    those of their files; `notes` are warnings about photos that several datasets have.
    """

    task: Task
    parts: Sequence[Part]
    questions: QuestionSchema
    sha256: str
    stamps: Sequence[PreparedStamps] = ()
    notes: Sequence[str] = ()

    @cached_property
    def train(self) -> Sequence[Sample]:
        """The training samples of all parts."""
        return chained([part.train for part in self.parts])

    @cached_property
    def valid(self) -> Sequence[Sample]:
        """The validation samples of all parts."""
        return chained([part.valid for part in self.parts])

    @cached_property
    def seen(self) -> Seen:
        """Hashes of what is learned from and validated on, for best.pt."""
        return Seen.of(self.train, self.valid)

    def check_unchanged(self) -> None:
        """Raise DataError if files that were read are not the same any more."""
        for stamps in self.stamps:
            stamps.check()


def mean_scores(scores: Mapping[str, Mapping[str, float]], count_score: str) -> dict[str, float]:
    """Return scores as in a row of metrics.jsonl: of one dataset its own, of several their means and each one's.

    Every dataset counts the same, however many samples it has. The score of dataset NAME is "NAME/SCORE".

    Args:
        scores: by name of the dataset, and of the score.
        count_score: the score that is added up instead.
    """
    first, *others = scores.values()
    if not others:
        return dict(first)
    shared = [name for name in first if all(name in other for other in others)]
    columns = {name: [own[name] for own in scores.values()] for name in shared}
    means = {n: sum(column) if n == count_score else statistics.fmean(column) for n, column in columns.items()}
    return means | {f"{of}/{name}": value for of, own in scores.items() for name, value in own.items()}


def data_of(task: Task, datasets: Sequence[Dataset], config: Config) -> Data:
    """Return the samples of all datasets; what one is scored on is not learned from another.

    Raises:
        DataError: a dataset has nothing to train on or nothing to validate on.
    """
    parts = [split_train_valid(task, each.prepared, config) for each in datasets]
    parts = [replace(part, name=each.name, weight=each.weight) for part, each in zip(parts, datasets, strict=True)]
    notes: list[str] = []
    if len(datasets) > 1:
        scored = [_scored_photos(part, each.prepared) for part, each in zip(parts, datasets, strict=True)]
        for number, part in enumerate(parts):
            others = {photo: parts[k].name for k, photos in enumerate(scored) if k != number for photo in photos}
            parts[number], lines = _without(part, others)
            notes += lines
    digest, stamps = digest_of(datasets), [each.stamps for each in datasets]
    return Data(task, parts, datasets[0].prepared.questions, digest, stamps, notes)


def split_train_valid(task: Task, prepared: Prepared, config: Config) -> Part:
    """Return train and valid samples; if split valid has no gold, a random part of the train cases is held out.

    Raises:
        DataError: nothing to train on, or nothing left to validate on.
    """
    train = task.training_samples(prepared, "train", config)
    split, valid = "valid", _valid_samples(task, prepared, config)
    if not valid:
        split = "train"
        held_out = _held_out(train, config)
        share = f"{len(held_out)} of {len({sample.case.case_id for sample in train})} train encounters"
        log(f"split valid has no gold: {share} are held out (--set holdout_fraction=)")
        valid = unique_samples(s for s in train if s.case.case_id in held_out)
        train = [s for s in train if s.case.case_id not in held_out]
    if not train or not valid:
        got = f"{len(train)} samples to train on, {len(valid)} to validate on"
        raise DataError(f"{prepared.root}: {got}; prepare.json lists what was read and what was left out")
    return Part(
        task.learned_from(train, config), valid, task.gold(prepared, split).only({sample.id for sample in valid})
    )


def _held_out(train: Sequence[Sample], config: Config) -> set[str]:
    """Return the ids of the cases that are held out: `holdout_fraction` of the groups, whole ones."""
    group_of = groups(train)
    firsts = sorted(set(group_of.values()))
    random.Random(config.seed).shuffle(firsts)  # noqa: S311  not a secret
    held_out = set(firsts[: round(config.holdout_fraction * len(firsts))])
    return {case for case, first in group_of.items() if first in held_out}


def groups(samples: Iterable[Sample]) -> dict[str, str]:
    """Return, per case id, the id of the first case of its group: cases of a patient, say, are never divided."""
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    for sample in samples:
        case = sample.case
        found[case.case_id] = first.setdefault(case.group_id, case.case_id) if case.group_id else case.case_id
    return found


def unique_samples(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples to predict: of those that differ only in their mask (--merge each), one."""
    return list({(sample.id, sample.qids): sample for sample in samples}.values())


def _valid_samples(task: Task, prepared: Prepared, config: Config) -> Sequence[Sample]:
    """Return the samples of split valid, none if it has no gold."""
    try:
        return task.training_samples(prepared, "valid", config)
    except EmptySplit:
        return []


def _scored_photos(part: Part, prepared: Prepared) -> set[str]:
    """Return the SHA-256 of the photos that a dataset is scored on: of splits valid and test, and held-out ones."""
    valid = () if isinstance(part.valid, LazySamples) else part.valid  # photos in shards have no SHA-256
    held_out = (image for sample in valid for image in sample.images)
    photos = (*prepared.images_of("valid"), *prepared.images_of("test"), *held_out)
    return {image.sha256 for image in photos if image.sha256}


def _without(part: Part, scored: Mapping[str, str]) -> tuple[Part, list[str]]:
    """Leave out the training samples with a photo that another dataset is scored on; return a line that says so.

    Args:
        part: samples of a dataset.
        scored: name of the other dataset by SHA-256 of the photo.

    Raises:
        DataError: nothing is left to train on.
    """
    if not scored or isinstance(part.train, LazySamples):  # the SHA-256 of photos in shards are not known
        return part, []
    owners = [next((scored[i.sha256] for i in sample.images if i.sha256 in scored), "") for sample in part.train]
    kept = [sample for sample, owner in zip(part.train, owners, strict=True) if not owner]
    if len(kept) == len(part.train):
        return part, []
    ids = dict.fromkeys(sample.id for sample, owner in zip(part.train, owners, strict=True) if owner)
    names = " and ".join(dict.fromkeys(filter(None, owners)))
    line = (
        f"{part.name}: {len(part.train) - len(kept)} of {len(part.train)} training samples left out"
        f" ({shorten(list(ids))}): {names} is scored on the same photos, byte for byte"
    )
    if not kept:
        raise DataError(f"{line}; nothing is left to train on: leave out this --data")
    return replace(part, train=kept), [line]
