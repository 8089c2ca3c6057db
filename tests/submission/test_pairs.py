"""Predictions of contrastive models in files of ours and of peers; damaged ones are refused in one line."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from magic_cli.errors import SubmissionError
from magic_cli.submission.pairs import CONCEPTS, VECTORS, ZERO_SHOT, SubmittedPair, find_pairs, read_pairs
from magic_cli.submission.reader import holds_only_pairs, open_predictions, submitted_files


def read(path: Path) -> list[SubmittedPair]:
    found = find_pairs(path)
    assert found is not None
    return list(read_pairs(found))


def table(folder: Path, text: str, name: str = "peer.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("head", ["filename", "image_path", "ImageID", "image"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_tables_of_peers(head: str, mark: str, tmp_path: Path) -> None:
    lines = [f"{head},melanoma,common nevus", "a.jpg,0.25,0.75", "b.jpg,1,0"]
    pairs = read(table(tmp_path, "\n".join(lines).replace(",", mark)))
    assert [pair.id for pair in pairs] == ["a.jpg", "b.jpg"]
    assert pairs[0].classes == ("melanoma", "common nevus")
    assert pairs[0].class_scores is not None
    assert pairs[0].class_scores.tolist() == [0.25, 0.75]


def test_scores_that_sum_to_one_or_name_a_class_are_of_classes_others_of_concepts(tmp_path: Path) -> None:
    concepts = read(table(tmp_path, "image,scale,ulcer\na,0.9,0.8\n"))
    assert concepts[0].concepts == ("scale", "ulcer")
    assert concepts[0].class_scores is None
    logits = read(table(tmp_path, "image,predicted,x,y\na,x,9,-3\n"))
    assert logits[0].classes == ("x", "y")
    assert logits[0].predicted == "x"
    chosen = read(table(tmp_path, "filename,pred\na,nevus\n"))
    assert chosen[0].predicted == "nevus"
    assert chosen[0].class_scores is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,x,y\na,0.5,nan\n", "not finite"),
        ("image,x,y\na,0.5,inf\n", "not finite"),
        ("image,x,y\na,0.5,__import__('os')\n", "peer.csv:2:y"),
        ("image,x,y\na,0.5,\n", "peer.csv:2:y"),
        ("image,x,y\na,0.5\n", "2 cells"),
        ("image,x,y\na,0.5,0.5\na,0.5,0.5\n", "twice"),
        ("image,x,y\n,0.5,0.5\n", "none"),
        ("image,x,y\n", "no rows"),
        ("image,x,x\na,1,0\n", "column x twice"),
        ("photo,x,y\na,0.5,0.5\n", "columns photo, x, y"),
        ("image\na\n", "columns image"),
    ],
)
def test_damaged_tables(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"peer\.csv") as error:
        read(table(tmp_path, text))
    assert told in str(error.value)
    assert type(error.value).__name__ in ("SubmissionError", "DataError")


def vectors(folder: Path, ids: object, rows: int = 2, **changed: np.ndarray) -> Path:
    tensors = {"images": np.eye(2, 3, dtype=np.float32)[:rows], "texts": np.eye(1, 3, dtype=np.float32)}
    tensors |= {"text_of": np.array([0, -1]), **changed}
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / VECTORS, {"ids": json.dumps(ids)})
    return folder


def test_vectors_alone(tmp_path: Path) -> None:
    first, second = read(vectors(tmp_path / "p", ["a", "b"]))
    assert first.text is not None
    assert first.text.tolist() == [1, 0, 0]
    assert second.text is None
    assert second.classes == ()


@pytest.mark.parametrize(
    "change",
    [
        {"ids": ["a", "a"]},
        {"ids": ["a"]},
        {"ids": "ab"},
        {"ids": [1, 2]},
        {"text_of": np.array([0, 1])},
        {"text_of": np.array([0, -2])},
        {"images": np.full((2, 3), np.nan, np.float32)},
        {"images": np.eye(2, 4, dtype=np.float32)},
        {"images": np.eye(2, 3)},
    ],
)
def test_damaged_vectors(change: dict[str, object], tmp_path: Path) -> None:
    folder = vectors(tmp_path / "p", **({"ids": ["a", "b"]} | change))  # type: ignore[arg-type]
    with pytest.raises(SubmissionError, match=VECTORS):
        read(folder)


def test_files_that_are_cut_or_of_other_photos(tmp_path: Path) -> None:
    folder = vectors(tmp_path / "p", ["a", "b"])
    table(folder, "image_id,predicted,x,y\nb,x,1,0\na,x,1,0\n", ZERO_SHOT)
    with pytest.raises(SubmissionError, match="in different orders"):
        read(folder)
    whole = (folder / VECTORS).read_bytes()
    for damaged in (whole[:20], whole[:-4], b"", b"\xff" * 64):
        (folder / VECTORS).write_bytes(damaged)
        with pytest.raises(SubmissionError, match="cannot be read"):
            read(folder)


def test_where_predictions_are_found(tmp_path: Path) -> None:
    assert find_pairs(tmp_path) is None
    assert find_pairs(tmp_path / "none") is None
    inner = vectors(tmp_path / "pretrain", ["a", "b"])
    (tmp_path / "pretrain" / "notes.txt").write_text("mine")
    found = find_pairs(tmp_path)
    assert found is not None
    assert found.vectors == inner / VECTORS
    assert submitted_files(tmp_path) == [inner / VECTORS]
    assert holds_only_pairs(tmp_path)
    with open_predictions(tmp_path) as submission:
        assert submission.masks is None
        assert len(list(submission.of("pairs", {}))) == 2
    vectors(tmp_path / "again", ["a", "b"])
    with pytest.raises(SubmissionError, match="one of them"):
        find_pairs(tmp_path)


def test_beside_answers_and_masks(tmp_path: Path) -> None:
    vectors(tmp_path / "pretrain", ["a", "b"])
    (tmp_path / "cvqa").mkdir()
    (tmp_path / "cvqa" / "data_cvqa_sys.json").write_text('[{"encounter_id": "ENC1"}]')
    assert not holds_only_pairs(tmp_path)
    with open_predictions(tmp_path) as submission:
        assert submission.rows == [{"encounter_id": "ENC1"}]
        assert submission.pairs is not None
    assert len(submitted_files(tmp_path)) == 2
    table(tmp_path, "image,scale\na,1\n", CONCEPTS)
    os.remove(tmp_path / "pretrain" / VECTORS)  # noqa: PTH107
    assert read(tmp_path)[0].concepts == ("scale",)
