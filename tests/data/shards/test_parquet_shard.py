"""Parquet files of pairs: photos as bytes, structs or paths, read by row groups; what is damaged."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pair_shards import MAKE_ROW, jpeg

from magic_cli.data.imaging.images import open_record
from magic_cli.data.lazy_samples import blocks_of, window_of
from magic_cli.data.pairs import pair_notes, pair_samples
from magic_cli.data.shards import parquet_shard
from magic_cli.data.shards.dataset import open_shards
from magic_cli.errors import DataError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COUNT = 20


def write(folder: Path, columns: Mapping[str, list[object]], group: int = 6) -> Path:
    path = folder / "train-0.parquet"
    parquet.write_table(pyarrow.table(dict(columns)), path, row_group_size=group)
    return path


def captions() -> list[object]:
    return [f"plaque {number}" for number in range(COUNT)]


@pytest.mark.parametrize("form", ["struct", "bytes", "path"])
def test_photos_are_bytes_structs_or_paths(form: str, tmp_path: Path) -> None:
    photos = [jpeg(number, 16 + number) for number in range(COUNT)]
    forms = {
        "struct": ("image", [{"bytes": data, "path": None} for data in photos]),
        "bytes": ("jpg", photos),
        "path": ("filename", [f"photos/{number}.jpg" for number in range(COUNT)]),
    }
    (tmp_path / "photos").mkdir()
    for number, data in enumerate(photos if form == "path" else ()):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(data)
    name, cells = forms[form]
    write(tmp_path, {name: cells, "text": captions()})
    samples = pair_samples(open_shards(tmp_path)[0], "train")
    assert len(samples) == COUNT - 2  # two are held out
    assert sum(blocks_of(samples)) == len(samples)
    assert window_of(samples) == 4
    for number in (13, 0, 17, 6):
        sample = samples[number]
        assert sample.case.text("raw") == {"en": f"plaque {number}"}
        assert open_record(sample.images[0]).width == 16 + number


def test_columns_of_make_and_rows_that_make_no_pair(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {name: [value] * 5 for name, value in MAKE_ROW.items()}
    columns |= {"image": [jpeg(1), jpeg(2), None, jpeg(4), jpeg(5)], "label": [3, None, 1, 1, 1]}
    columns["knowledge_masks"] = ["[1, 0, 1]", "[1, 1", "[1, 1, 1]", "[1, 1, 1]", "[1, 1, 1]"]
    write(tmp_path, columns)
    dataset, _ = open_shards(tmp_path)
    samples = pair_samples(dataset, "train")
    assert [sample.id for sample in samples] == ["train-0/0", "train-0/3"]
    assert set(samples[0].case.texts) == {"raw", "truncated", "concept", "subtext-1", "subtext-2"}
    assert samples[0].case.label == "3"
    lines = pair_notes(dataset, "train")
    assert lines[0].startswith("train-0.parquet:2:knowledge_masks: got something else")
    assert set(lines[1:3]) == {"1 keys with damaged texts make no pair", "1 keys without a photo make no pair"}


def test_row_groups_are_read_one_by_one_and_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"image": [jpeg(number) for number in range(COUNT)], "text": captions()}, group=5)
    samples = pair_samples(open_shards(tmp_path)[0], "train")
    table = parquet_shard._table(samples[0].images[0].path, parquet_shard.os.getpid())
    read: list[int] = []
    original = table.file.read_row_group

    class Counting:
        metadata = table.file.metadata

        def read_row_group(self, group: int, columns: list[str], use_threads: bool) -> object:
            read.extend([group] if columns == ["image"] else [])
            return original(group, columns, use_threads=use_threads)

    monkeypatch.setattr(table, "file", Counting())
    monkeypatch.setattr(parquet_shard, "_KEPT", 1)
    for number in (0, 4, 5, 9, 1):
        open_record(samples[number].images[0])
    assert read == [0, 1, 0]


@pytest.mark.parametrize("content", [b"", b"PAR1" + b"?" * 100 + b"PAR1", None])
def test_what_is_no_table_of_pairs_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is None:
        write(tmp_path, {"text": captions()})
    else:
        (tmp_path / "train-0.parquet").write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_shards(tmp_path)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith("train-0.parquet: got ")
