"""Folders of shards as datasets: splits, held-out pairs, groups, what they are refused for, and orders over them."""

import os
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pair_shards import jpeg, pair, write_pairs, write_tar

from magic_cli.data.datasets import open_datasets
from magic_cli.data.imaging.images import open_record
from magic_cli.data.lazy_samples import LazySamples, blocks_of
from magic_cli.data.pairs import pair_notes, pair_samples
from magic_cli.data.prepared_inputs import table_files
from magic_cli.data.shards.dataset import ShardedDataset, is_sharded, open_shards, shard_files
from magic_cli.errors import DataError, ExtraError
from magic_cli.tasks import get
from magic_cli.training.loader import Share, Views, WholeBatches
from magic_cli.training.parts import Data, Part


def ids(dataset: ShardedDataset, split: str) -> list[str]:
    return [sample.id for sample in pair_samples(dataset, split)]


@pytest.mark.parametrize(
    "names",
    [
        ("train/0.tar", "val/0.tar", "test/0.tar"),
        ("train-000.tar", "valid-000.tar", "test-000.tar"),
        ("derm/pretrain_0.tar", "derm/validation_0.tar", "derm/test_0.tar"),
    ],
)
def test_splits_are_those_of_names(names: Sequence[str], tmp_path: Path) -> None:
    for number, name in enumerate(names):
        write_pairs(tmp_path / name, 3, first=10 * number)
    dataset, _ = open_shards(tmp_path)
    assert dataset.warnings == ()
    for number, (split, name) in enumerate(zip(("train", "valid", "test"), names, strict=True)):
        assert ids(dataset, split) == [f"{name[:-4]}/{10 * number + n:06}" for n in range(3)]
        assert {sample.case.split for sample in pair_samples(dataset, split)} == {split}
        assert dataset.manifest.counts[split].images == 3


def test_the_last_shard_is_held_out_and_numbers_order_shards(tmp_path: Path) -> None:
    for number in range(12):
        write_pairs(tmp_path / f"shard-{number}.tar", 2, first=2 * number)
    dataset, _ = open_shards(tmp_path)
    assert ids(dataset, "valid") == ["shard-11/000022", "shard-11/000023"]
    assert ids(dataset, "train")[-1] == "shard-10/000021"
    (line,) = pair_notes(dataset, "train")
    assert line == "no shards for validation: shard-11.tar (2 of 24 pairs) is held out"
    assert pair_notes(dataset, "valid") == ()


@pytest.mark.parametrize(("sizes", "held"), [((1100,), 22), ((100,), 10), ((100, 50), 5), ((2,), 1), ((3, 3), 1)])
def test_of_one_shard_or_a_large_one_a_part_is_held_out(sizes: Sequence[int], held: int, tmp_path: Path) -> None:
    for number, size in enumerate(sizes):
        write_pairs(tmp_path / f"{number}.tar", size)
    dataset, _ = open_shards(tmp_path)
    assert len(dataset.samples("valid")) == held
    assert len(dataset.samples("train")) == sum(sizes) - held
    assert pair_notes(dataset, "train")[0].endswith("held out")
    assert not set(ids(dataset, "train")) & set(ids(dataset, "valid"))


def test_a_group_of_valid_is_not_trained_on(tmp_path: Path) -> None:
    rows = [(f"{n:03}", {"caption": f"plaque {n}", "patient_id": f"P{n % 3}" if n < 7 else None}) for n in range(9)]
    write_tar(tmp_path / "train.tar", [m for n, meta in rows for m in pair(n, 0, None, meta)])
    write_tar(tmp_path / "valid.tar", pair("x", 0, None, {"caption": "scale", "patient_id": "P1"}))
    dataset, _ = open_shards(tmp_path)
    train = pair_samples(dataset, "train")
    assert [sample.case.group_id for sample in train] == ["P0", "P2", "P0", "P2", "P0", "", ""]
    assert pair_notes(dataset, "train") == ("2 pairs of groups that are in valid are not trained on",)
    assert list(blocks_of(train)) == [7]


def test_what_makes_no_pair_is_told(tmp_path: Path) -> None:
    write_tar(tmp_path / "train.tar", [*pair("1"), *pair("2", text=" "), ("3.jpg", jpeg(1)), ("3.json", b"{")])
    write_pairs(tmp_path / "valid.tar", 1)
    dataset, _ = open_shards(tmp_path)
    lines = pair_notes(dataset, "train")
    assert lines[0].startswith("train.tar: 3: got damaged JSON")
    assert lines[1:] == ("1 keys without any text make no pair", "1 keys with damaged texts make no pair")


def test_unusable_shards_are_refused_a_line_each(tmp_path: Path) -> None:
    write_pairs(tmp_path / "0.tar", 2)
    (tmp_path / "1.tar.gz").write_bytes(b"\x1f\x8b" + b"?" * 600)
    (tmp_path / "2.tar").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError) as caught:
        open_shards(tmp_path)
    assert [line.partition(":")[0] for line in caught.value.problems] == ["1.tar.gz", "2.tar"]
    write_tar(tmp_path / "other" / "0.tar", [("a.npy", b"1")])
    with pytest.raises(DataError, match=r"1 shards without a pair to train on, expected KEY\.jpg with KEY\.txt"):
        open_shards(tmp_path / "other")


def test_only_tasks_that_read_pairs_take_shards(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a.tar", 60)
    other = write_pairs(tmp_path / ".other" / "b.tar", 9).parent
    assert (is_sharded(tmp_path), is_sharded(tmp_path / "a.tar"), is_sharded(tmp_path / "none")) == (True, True, False)
    with pytest.raises(DataError, match="got shards of photos and texts, expected a folder that `magic prepare` wrote"):
        open_datasets([tmp_path], (), ("train",), masks=True)
    both = open_datasets([tmp_path, other], (), ("train",), masks=False, shards=True)
    assert [len(pair_samples(dataset.prepared, "train")) > 5 for dataset in both] == [True, True]
    with pytest.raises(DataError, match="the same dataset"):
        open_datasets([tmp_path, tmp_path / "a.tar"], (), ("train",), masks=False, shards=True)
    assert not list(table_files(tmp_path))


def test_shards_are_inputs_and_a_changed_one_is_noticed(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.tar", 4)
    dataset, stamps = open_shards(tmp_path)
    assert [file for file, _ in shard_files(stamps)] == [path]
    stamps.check()
    again, _ = open_shards(tmp_path)
    assert again.sha256 == dataset.sha256
    os.utime(path, ns=(5, 5))
    with pytest.raises(DataError, match=r"a.tar replaced or changed"):
        stamps.check()
    assert open_shards(tmp_path)[0].sha256 == dataset.sha256  # the content is the same
    write_pairs(path, 4, first=1)
    assert open_shards(tmp_path)[0].sha256 != dataset.sha256


def test_no_list_of_samples_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write_pairs(tmp_path / f"{number}.tar", 10, first=10 * number)
    samples = pair_samples(open_shards(tmp_path)[0], "train")
    assert isinstance(samples, LazySamples)
    monkeypatch.setattr(type(samples), "sample", None)  # nothing may be read
    task = get("seg")
    part = Part(samples, samples, task.gold_in)  # type: ignore[arg-type]  # no gold is asked for
    data = Data(task, [part, part], None, "")  # type: ignore[arg-type]
    assert (len(data.train), len(data.valid)) == (58, 58)
    views = Views(data.train, 0, shares=[Share(29, 1.0, blocks_of(samples))] * 2)
    assert len(list(WholeBatches(views, 8, window=1))) == 7


def test_an_order_over_shards_gives_every_sample_once_in_other_processes_too(tmp_path: Path) -> None:
    for number in range(4):
        write_pairs(tmp_path / f"{number}.tar", 5 + number, first=100 * number)
    samples = pair_samples(open_shards(tmp_path)[0], "train")
    copied = pickle.loads(pickle.dumps(samples))  # noqa: S301  our own
    views = Views(copied, 3, shares=[Share(len(samples), 1.0, blocks_of(samples))])
    for window in (0, 2):
        batches = WholeBatches(views, len(samples), window=window)
        found = [views[index][0] for index in next(iter(batches))]
        assert sorted(sample.id for sample in found) == sorted(sample.id for sample in samples)
        assert all(open_record(sample.images[0]).size == (16, 8) for sample in found)
        assert all(sample.case.text("raw")["en"] == f"plaque {int(sample.id[2:])}" for sample in found)


def test_parquet_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExtraError, match=r"need pyarrow.*pip install pyarrow"):
        open_shards(tmp_path)
