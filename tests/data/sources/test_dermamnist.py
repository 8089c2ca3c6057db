"""DermaMNIST: arrays read photo by photo, classes, splits, and files that are damaged, pickled or others."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magic_cli.commands.prepare import prepare
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources import open_source
from magic_cli.data.sources.source import ReadOptions
from magic_cli.errors import DataError

NUMBERS = {"train": 7, "val": 2, "test": 3}


def arrays(side: int = 28) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}
    for number, (split, count) in enumerate(NUMBERS.items()):
        pixels = np.random.default_rng(number).integers(0, 255, (count, side, side, 3), np.uint8)
        made |= {f"{split}_images": pixels, f"{split}_labels": np.arange(count, dtype=np.uint8)[:, None] % 7}
    return made


def save(path: Path, **changes: np.ndarray) -> Path:
    np.savez_compressed(path, **(arrays() | changes))
    return path


@pytest.mark.parametrize("packed", [True, False])
def test_photos_classes_and_splits(packed: bool, tmp_path: Path) -> None:
    made = arrays()
    (np.savez_compressed if packed else np.savez)(tmp_path / "dermamnist.npz", **made)
    raw = open_source(tmp_path, ReadOptions())
    reads = list(raw.cases)
    assert (raw.source, raw.total, len(reads)) == ("dermamnist", 12, 12)
    assert [read.case.label for read in reads[:7]] == ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
    assert reads[4].case.attributes == {"class": "4", "class_name": "melanoma"}
    assert [sum(read.case.split == split for read in reads) for split in ("train", "valid", "test")] == [7, 2, 3]
    pixels = np.stack([read.photos[0].pixels() for read in reads[:7]])
    assert np.array_equal(pixels, made["train_images"])
    assert (reads[8].case.case_id, reads[8].where) == ("dermamnist_valid_00001", "dermamnist.npz:val_labels[1]")
    (note,) = raw.issues.notes
    assert "split ignores lesion_id" in note
    assert "smoke test only" in note


def test_of_several_sizes_the_largest_is_read(tmp_path: Path) -> None:
    save(tmp_path / "dermamnist.npz")
    save(tmp_path / "dermamnist_64.npz", **arrays(64))
    raw = open_source(tmp_path, ReadOptions())
    assert list(raw.inputs) == ["dermamnist_64.npz"]
    assert raw.issues.notes[0] == "dermamnist.npz: not read, as dermamnist_64.npz has the same photos, larger"


def test_a_file_of_another_name_is_known_by_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "data.npz")
    with pytest.raises(DataError, match="no encounters"):
        open_source(tmp_path, ReadOptions())
    monkeypatch.setattr("magic_cli.data.sources.dermamnist._SIZES", tuple(NUMBERS.values()))
    assert open_source(tmp_path, ReadOptions()).source == "dermamnist"


def test_a_class_beyond_the_seven_costs_its_photo(tmp_path: Path) -> None:
    save(tmp_path / "dermamnist.npz", val_labels=np.array([[3], [7]], np.uint8))
    raw = open_source(tmp_path, ReadOptions())
    assert len(list(raw.cases)) == 11
    assert raw.issues.problems == [
        "dermamnist.npz:val_labels[1]: got class 7, expected 0 to 6; is it DermaMNIST? left out"
    ]
    assert raw.issues.left_out["cases"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": np.array([object()] * 7, object)}, "train_images of pickled objects"),
        ({"val_labels": np.array([None, None], object)}, "val_labels of pickled objects"),
        ({"train_labels": np.zeros((3, 1), np.uint8)}, "train_images and train_labels of other numbers"),
        ({"test_images": np.zeros((3, 28, 28, 3), np.float32)}, "test_images of float32"),
        ({"test_images": np.zeros((3, 28, 28), np.uint8)}, "train_images and train_labels|of other numbers"),
        ({"test_images": np.asfortranarray(np.zeros((3, 28, 28, 3), np.uint8))}, "by columns"),
        ({"test_images": np.zeros((3, 28, 30, 3), np.uint8)}, "photos of"),
    ],
)
def test_other_arrays_are_refused(changes: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    save(tmp_path / "dermamnist.npz", **changes)
    with pytest.raises(DataError, match=f"^dermamnist.npz: got .*(?:{message})"):
        open_source(tmp_path, ReadOptions())


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    made = arrays()
    del made["val_images"]
    np.savez(tmp_path / "dermamnist.npz", **made)
    with pytest.raises(DataError, match="got no val_images"):
        open_source(tmp_path, ReadOptions())


@pytest.mark.parametrize("kind", ["cut", "flipped", "empty", "no zip"])
def test_a_damaged_npz_is_one_line(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / "dermamnist.npz")
    data = bytearray(path.read_bytes())
    at = data.index(b"train_images.npy") + 2_000
    data[at : at + 4] = bytes(255 - byte for byte in data[at : at + 4])
    path.write_bytes({"cut": path.read_bytes()[:-900], "flipped": bytes(data), "empty": b"", "no zip": b"x" * 99}[kind])
    with pytest.raises(DataError, match=r"^dermamnist.npz: got a damaged npz \(") as caught:
        list(open_source(tmp_path, ReadOptions()).cases)
    assert len(caught.value.problems) == 1


def test_an_array_shorter_than_its_header_says(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "dermamnist.npz", "w") as packed:
        for key, values in arrays().items():
            buffer = io.BytesIO()
            np.save(buffer, values)
            packed.writestr(f"{key}.npy", buffer.getvalue()[: -10 if key == "test_images" else None])
    raw = open_source(tmp_path, ReadOptions())
    with pytest.raises(DataError, match="it ends early"):
        list(raw.cases)


def test_prepared(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    save(tmp_path / "raw/dermamnist.npz")
    prepare(tmp_path / "raw", tmp_path / "prepared")
    prepared = open_prepared(tmp_path / "prepared")
    first = prepared.images["dermamnist_train_00000"]
    with Image.open(first.path) as photo:
        assert np.array_equal(np.asarray(photo), arrays()["train_images"][0])
    assert (first.height, first.width) == (28, 28)
    assert {case.label for case in prepared.cases_of("valid")} == {"akiec", "bcc"}
