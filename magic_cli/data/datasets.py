"""Prepared datasets that a run trains on together: their names, their weights, and the SHA-256 that stands for all."""

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from magic_cli.data.prepared import Prepared
from magic_cli.data.prepared_stamps import PreparedStamps, open_stamped
from magic_cli.data.shards.dataset import is_sharded, open_shards
from magic_cli.errors import ConfigError, DataError, printable, problem
from magic_cli.io.files import StrPath

LEAST, MOST = 0.001, 100.0  # weights


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset that a run trains on.

    Attributes:
        name: for messages and scores: the end of its path that tells it from the other datasets; "" for the only one.
        folder: as it was given.
        weight: how often an epoch draws each of its training samples, on average.
        prepared: what is in it.
        stamps: of the files that the run reads.
    """

    name: str
    folder: Path
    weight: float
    prepared: Prepared
    stamps: PreparedStamps


def open_datasets(
    folders: Sequence[StrPath],
    weights: Sequence[float],
    splits: Collection[str],
    masks: bool,
    shards: bool = False,
) -> tuple[Dataset, ...]:
    """Open the prepared datasets of a run.

    Args:
        folders: one or more, each of another dataset.
        weights: one for each folder, in their order; none for 1 each.
        splits: the splits whose masks, if `masks`, get stamps; as for `open_stamped`.
        masks: as for `open_stamped`.
        shards: whether folders of shards (data/shards/) can be used.

    Raises:
        ConfigError: no folder, another number of weights than of folders, or a weight out of range.
        DataError: the same dataset twice, or a folder that cannot be used (`open_prepared`).
    """
    names, factors = _names(folders), _weights(weights, len(folders))
    datasets: list[Dataset] = []
    for name, folder, weight in zip(names, map(Path, folders), factors, strict=True):
        prepared, stamps = open_dataset(folder, splits, masks, shards)
        same = next((other for other in datasets if other.prepared.sha256 == prepared.sha256), None)
        if same is not None:
            got = f"the same dataset as {same.folder}"
            remedy = "give each once; --data-weight 2 draws its samples twice per epoch"
            raise DataError(printable(problem(f"--data {folder}", got, "another one", remedy)))
        datasets.append(Dataset(name, folder, weight, prepared, stamps))
    return tuple(datasets)


def open_dataset(
    folder: Path, splits: Collection[str] = (), masks: bool = False, shards: bool = False
) -> tuple[Prepared, PreparedStamps]:
    """Open one dataset; arguments and errors as for `open_datasets`."""
    if not is_sharded(folder):
        return open_stamped(folder, splits, masks)
    if not shards:
        expected = "a folder that `magic prepare` wrote"
        raise DataError(problem(f"--data {folder}", "shards of photos and texts", expected, "they are for pretraining"))
    return open_shards(folder)


def digest_of(datasets: Sequence[Dataset]) -> str:
    """Return the SHA-256 that stands for datasets, their order and weights; for one of weight 1, its manifest's own."""
    if len(datasets) == 1 and datasets[0].weight == 1:
        return datasets[0].prepared.sha256
    rows = [[dataset.prepared.sha256, dataset.weight] for dataset in datasets]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _names(folders: Sequence[StrPath]) -> list[str]:
    """Return the shortest ends of the paths that all differ, printable; "" for a single folder."""
    if not folders:
        raise ConfigError(problem("--data", "no folder", "one that `magic prepare` wrote", "give one or more"))
    if len(folders) == 1:
        return [""]
    places = [Path(folder).resolve() for folder in folders]
    for number, place in enumerate(places):
        if place in places[:number]:
            got, remedy = "the same folder twice", "give each once; --data-weight 2 draws its samples twice per epoch"
            raise DataError(printable(problem(f"--data {folders[number]}", got, "another one", remedy)))
    given = [Path(os.path.normpath(folder)) for folder in folders]
    parts = [path.parts or (place.name,) for path, place in zip(given, places, strict=True)]
    for depth in range(1, max(map(len, parts)) + 1):
        names = [printable("/".join(path[-depth:])) for path in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{number}: {name}" for number, name in enumerate(names, 1)]  # names that differ in unprintable characters


def _weights(weights: Sequence[float], number: int) -> list[float]:
    if len(weights) not in (0, number):
        expected = f"none or {number}, one for each --data in their order"
        raise ConfigError(
            problem("--data-weight", f"{len(weights)} weights", expected, "give as many, 1 for no change")
        )
    for weight in weights:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not LEAST <= weight <= MOST:
            expected = f"a number from {LEAST:g} to {MOST:g}"
            raise ConfigError(problem("--data-weight", str(weight), expected, "give another one"))
    return [float(weight) for weight in weights] or [1.0] * number
