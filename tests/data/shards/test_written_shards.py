"""`magic prepare --shards`: the pairs of a prepared dataset as tars, which say and show what the dataset does."""

import errno
import json
import tarfile
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raw_tables import write_csv, write_photo

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.imaging.images import open_record
from magic_cli.data.pairs import pair_samples
from magic_cli.data.prepared import open_prepared
from magic_cli.data.shards import tar_writer
from magic_cli.data.shards.dataset import open_shards
from magic_cli.data.shards.shard_plan import ShardPlanner
from magic_cli.data.texts.pair_texts import class_of, pair_texts
from magic_cli.errors import ConfigError, DataError
from magic_cli.io import schema
from magic_cli.records import SPLITS, Case, ImageRecord

OPTIONS = PrepareOptions(mapping=("image=file", "label=dx", "text=note", "group=patient", "split=split"), shards=7)

SUFFIXES = ("jpg", "png", "bmp", "webp")

DEVICE = "SecretCamera"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two photos of each of 20 patients, of all formats, some to be turned, with the device in their EXIF block."""
    root, rows = tmp_path / "raw", []
    for number in range(40):
        name = f"p{number}.{SUFFIXES[number % len(SUFFIXES)]}"
        path = write_photo(root / name, number)
        exif = Image.Exif()
        exif[271], exif[274] = DEVICE, 1 + number % 8
        with Image.open(path) as photo:
            photo.save(path, exif=exif)
        patient, split = number // 2, ("train", "train", "train", "val", "test")[number // 2 % 5]
        note = "" if number == 38 else f"Red plaque number {number}. It itches; söre."
        rows.append({"file": name, "dx": f"class_{number % 3}", "note": note, "patient": f"P{patient}", "split": split})
    rows[38]["dx"] = ""  # neither a text nor a class: no pair
    write_csv(root / "table.csv", rows)
    return root


def members(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}  # type: ignore[union-attr]


def rows_of(tar: Path) -> dict[str, dict[str, object]]:
    return {name[:-5]: json.loads(data) for name, data in members(tar).items() if name.endswith(".json")}


def check_equal(out: Path) -> int:
    """Compare each pair in the shards of a prepared dataset with the dataset's own; return how many there are."""
    prepared, (sharded, _) = open_prepared(out), open_shards(out / "shards")
    assert sharded.warnings == ()
    tars = {tar.stem: rows_of(tar) for tar in out.glob("shards/*.tar")}
    names = {f"{stem}/{key}": row["image_id"] for stem, rows in tars.items() for key, row in rows.items()}
    total = 0
    for split in SPLITS:
        own = {sample.id: sample for sample in pair_samples(prepared, split)}
        found = {names[sample.id]: sample for sample in pair_samples(sharded, split)}
        assert found.keys() == own.keys()
        for name, sample in own.items():
            theirs = found[name].case  # type: ignore[index]
            assert pair_texts(theirs) == pair_texts(sample.case)
            assert class_of(theirs) == class_of(sample.case)
            assert (theirs.case_id, theirs.label) == (sample.case.case_id, sample.case.label)
            assert dict(theirs.attributes) == dict(sample.case.attributes)
            assert theirs.group_id == (sample.case.group_id or sample.case.case_id)
            photos = open_record(found[name].images[0]), open_record(sample.images[0])  # type: ignore[index]
            assert np.array_equal(*map(np.asarray, photos))
        total += len(own)
    return total


def test_shards_say_and_show_what_the_dataset_does(raw: Path, tmp_path: Path) -> None:
    result = prepare(raw, tmp_path / "out", OPTIONS)
    assert check_equal(tmp_path / "out") == 39
    tars = sorted((tmp_path / "out" / "shards").glob("*.tar"))
    assert [tar.name for tar in tars] == [
        *("test-000000.tar", "train-000000.tar", "train-000001.tar", "train-000002.tar", "train-000003.tar"),
        *("valid-000000.tar", "valid-000001.tar"),
    ]
    assert not any(DEVICE.encode() in tar.read_bytes() for tar in tars)
    groups = [{row["group"] for row in rows_of(tar).values()} for tar in tars]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 20
    assert result.to_json()["shards"] == {
        "train": {"tars": 4, "pairs": 24},
        "valid": {"tars": 2, "pairs": 8},
        "test": {"tars": 1, "pairs": 7},
    }
    assert not schema.problems("prepared", result.to_json(), "--json")
    line = next(line for line in result.lines() if line.startswith("shards: train 24 pairs in 4 tars, valid 8 pairs"))
    assert "magic train pretrain --data" in line


def test_challenge_data_say_what_answers_and_prompts_say(challenge: Path, prepared: Path, tmp_path: Path) -> None:
    prepare(challenge, tmp_path / "out", PrepareOptions(shards=3))
    assert check_equal(tmp_path / "out") > 5
    manifests = [(folder / "prepare.json").read_bytes() for folder in (prepared, tmp_path / "out")]
    assert manifests[0] == manifests[1]  # shards leave the dataset as it is


def test_the_same_bytes_again_of_nobody_at_no_time(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(raw, tmp_path / "a", OPTIONS)
    monkeypatch.setattr(tar_writer, "_MOST_OPEN", 1)
    prepare(raw, tmp_path / "b", OPTIONS)
    for tar in (tmp_path / "a" / "shards").glob("*.tar"):
        assert tar.read_bytes() == (tmp_path / "b" / "shards" / tar.name).read_bytes()
        with tarfile.open(tar) as opened:
            assert {(m.mtime, m.uid, m.uname, m.mode) for m in opened} == {(0, 0, "", 0o644)}


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (-1, "--shards: got -1, expected 1 to 99,999"),
        (100_000, "--shards: got 100,000, expected 1 to 99,999"),
        (2, r"--shards: got 2, expected 3 to 20, as splits \(train, valid, test\) share none, and"),
        (21, "--shards: got 21, expected 3 to 20"),
    ],
)
def test_numbers_that_cannot_be_are_refused_and_lose_nothing(number: int, said: str, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(raw, out, replace(OPTIONS, shards=3))
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    for options in (replace(OPTIONS, shards=number, overwrite=True), replace(OPTIONS, shards=number, dry_run=True)):
        with pytest.raises((DataError, ConfigError), match=said) as caught:
            prepare(raw, out, options)
        assert len(caught.value.problems) == 1
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before


def test_overwriting_leaves_no_older_tar(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(raw, out, replace(OPTIONS, shards=20))
    open_shards(out / "shards")  # writes indexes, which are not ours to remove
    prepare(raw, out, replace(OPTIONS, shards=3, overwrite=True))
    assert len(list(out.glob("shards/*.tar"))) == 3
    assert check_equal(out) == 39
    prepare(raw, out, replace(OPTIONS, shards=0, overwrite=True))
    assert not list(out.glob("shards/*.tar"))


def test_a_disk_without_room_is_told_before_and_one_that_fills_up_leaves_nothing(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(tar_writer, "photo_file", full)
        with pytest.raises(DataError, match=r"out: cannot be written \(No space left on device\)"):
            prepare(raw, out, OPTIONS)
    usage = namedtuple("usage", "total used free")(1 << 40, 1 << 40, 1_000_000)
    monkeypatch.setattr(tar_writer.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"got 0\.0 GB free, expected about 0\.1 GB for the shards; free space"):
        prepare(raw, out, OPTIONS)
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(
    ("sizes", "number", "largest"),
    [((1,) * 100, 9, 12), ((60, *[1] * 9), 10, 60), ((1,) * 9, 9, 1), ((5, 5, 50), 2, 55)],
)
def test_shards_are_alike_and_none_is_empty(sizes: Sequence[int], number: int, largest: int) -> None:
    planner = ShardPlanner(number)
    cases = [Case(f"E{n}", "train", (), {"raw": {"en": "plaque"}}, group_id=f"P{n}") for n in range(len(sizes))]
    for case in cases:
        planner.add_case(case)
    for case, size in zip(cases, sizes, strict=True):
        for photo in range(size):
            planner.add_image(ImageRecord(f"{case.case_id}-{photo}", case.case_id, "train", "x.jpg", 1, 1))
    plan = planner.plan
    counts = np.zeros(number, int)
    np.add.at(counts, [plan.shard_of(case) for case in cases], sizes)
    assert tuple(counts) == plan.pairs
    assert min(counts) > 0
    assert max(counts) <= largest
