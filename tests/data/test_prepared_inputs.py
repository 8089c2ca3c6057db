"""What a record lists of a prepared dataset: photos and masks one by one, or the tables alone where there are many."""

from pathlib import Path

import pytest
from tiny_dataset import make_prepared

from magic_cli.data import prepared_inputs


def test_photos_of_a_large_dataset_are_left_to_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_prepared(tmp_path)
    masks = list(prepared_inputs.image_files(root, ("train",), "annotators"))
    assert len(masks) == 9
    monkeypatch.setattr(prepared_inputs, "MOST_PHOTOS", 9)
    assert not list(prepared_inputs.image_files(root, ("train",), "annotators"))
    assert root / "images.jsonl" in [path for path, _ in prepared_inputs.table_files(root)]
