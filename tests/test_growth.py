"""Memory a photo: with `Path` objects in place of text, or texts that are kept, these bounds are exceeded."""

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from challenge_folders import answers_row, encounter_row
from tiny_dataset import make_prepared

from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources.dermavqa.reader import open_challenge
from magic_cli.submission.archive import open_archive

PHOTOS = 100


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def kept(make: Callable[[], object]) -> int:
    """Return the bytes that the result of a call keeps."""
    make()  # what modules and regular expressions keep is no matter of photos
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    result = make()
    after = tracemalloc.get_traced_memory()[0]
    assert result is not None
    return after - before


def challenge(root: Path, masks: int) -> Path:
    """Write a challenge folder of encounters of one photo each; photos and masks are empty files."""
    (root / "photos").mkdir(parents=True)
    names = [f"IMG_ENC{number:05}_00001" for number in range(1, PHOTOS + 1)]
    for name in names:
        (root / "photos" / f"{name}.jpg").touch()
        for annotator in range(masks):
            (root / "photos" / f"{name}_mask_ann{annotator}.tiff").touch()
    rows = [encounter_row(number, [f"{name}.jpg"]) for number, name in enumerate(names, 1)]
    (root / "train.json").write_text(json.dumps(rows), encoding="utf-8")
    answers = [answers_row(number) for number in range(1, PHOTOS + 1)]
    (root / "train_cvqa.json").write_text(json.dumps(answers), encoding="utf-8")
    return root


def test_files_of_a_challenge_folder(tmp_path: Path) -> None:
    bare, whole = (challenge(tmp_path / str(masks), masks) for masks in (0, 3))
    assert kept(lambda: open_challenge(whole)) - kept(lambda: open_challenge(bare)) < 1_200 * PHOTOS


def prepared(root: Path) -> Path:
    """Write a prepared dataset whose first encounter has 100 photos more; none is there."""
    make_prepared(root)
    lines = (root / "images.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    more = [lines[0].replace(first["image_id"], f"IMG_X_{number:05}") for number in range(PHOTOS)]
    (root / "images.jsonl").write_text("\n".join([*lines, *more]) + "\n", encoding="utf-8")
    manifest = json.loads((root / "prepare.json").read_text(encoding="utf-8"))
    manifest["counts"][first["split"]]["images"] += PHOTOS
    (root / "prepare.json").write_text(json.dumps(manifest), encoding="utf-8")
    return root


def test_photos_of_a_prepared_dataset(tmp_path: Path) -> None:
    root = prepared(tmp_path / "prepared")
    few = make_prepared(tmp_path / "few")
    assert kept(lambda: open_prepared(root)) - kept(lambda: open_prepared(few)) < 1_700 * PHOTOS


def test_a_prepared_dataset_without_texts_is_the_same_but_for_them(tmp_path: Path) -> None:
    root = make_prepared(tmp_path)
    whole, bare = open_prepared(root), open_prepared(root, texts=False)
    assert (whole.images, whole.sha256, whole.cases.keys()) == (bare.images, bare.sha256, bare.cases.keys())
    for one, other in zip(whole.cases.values(), bare.cases.values(), strict=True):
        assert (one.split, one.image_ids, one.answers) == (other.split, other.image_ids, other.answers)
        assert dict(other.texts) == {}
        assert (other.question, other.answer) == ("", "")
        assert one.question


def test_files_of_a_folder_of_masks(tmp_path: Path) -> None:
    (tmp_path / "masks_preds").mkdir()
    for number in range(PHOTOS):
        (tmp_path / "masks_preds" / f"IMG_ENC{number:05}_00001_mask_sys.tiff").touch()

    def listed() -> Any:
        with open_archive(tmp_path) as archive:
            return archive

    assert kept(listed) < 300 * PHOTOS
