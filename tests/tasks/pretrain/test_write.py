"""Files of predictions: what is written is what is read, in memory that does not grow with the photos."""

import csv
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pair_predictions import CLASSES, CONCEPTS, draw
from safetensors.numpy import load_file

from magic_cli.data.pair_gold import PairGold
from magic_cli.data.sources.photo_tables import read_pair_table
from magic_cli.io import schema
from magic_cli.io.json_files import read_json
from magic_cli.submission.pairs import ASKED, LABELS, MAPS, VECTORS, find_pairs, read_pairs, read_vectors
from magic_cli.tasks.pretrain.asked import Asked, Concept
from magic_cli.tasks.pretrain.predictions import PairPrediction
from magic_cli.tasks.pretrain.score import score
from magic_cli.tasks.pretrain.write import MOST_MAPS, save

ASK = Asked(CLASSES, concepts=tuple(Concept(name, (name, f"{name}s")) for name in CONCEPTS))


def test_scores_of_the_files_are_those_of_the_predictions(tmp_path: Path) -> None:
    gold, predictions = draw()
    files = save(predictions, ASK, gold, "valid", tmp_path / "out")
    assert all(path.is_file() for path in files)
    assert schema.problems("pairs", read_json(tmp_path / "out" / ASKED), "predictions.json") == []
    found = find_pairs(tmp_path / "out")
    assert found is not None
    written = score(gold, read_pairs(found))
    assert written.scores == pytest.approx(score(gold, predictions).scores, abs=1e-6)


def test_names_that_spreadsheets_take_for_formulas_are_kept_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = dict(zip(CLASSES, ("=1+1", "-other", "@home", "+skin"), strict=False))
    gold, predictions = draw()
    renamed = tuple(names.get(name, name) for name in CLASSES)
    gold = replace(gold, classes={photo: names.get(label, label) for photo, label in gold.classes.items()})
    save([replace(p, classes=renamed) for p in predictions], replace(ASK, classes=renamed), gold, "valid", tmp_path)
    found = find_pairs(tmp_path)
    assert found is not None
    assert next(read_pairs(found)).classes == renamed
    assert score(gold, read_pairs(found)).scores["top1"] == score(draw()[0], predictions).scores["top1"]
    assert "names begin with =, +, - or @" in capsys.readouterr().err


def test_no_text_of_a_patient_is_written(tmp_path: Path) -> None:
    gold, predictions = draw()
    for path in save(predictions, ASK, gold, "valid", tmp_path / "out"):
        assert b"patient" not in path.read_bytes()


def test_texts_of_several_photos_are_stored_once(tmp_path: Path) -> None:
    gold, predictions = draw()
    text = predictions[1].text
    save([replace(p, text=text) for p in predictions], ASK, gold, "valid", tmp_path / "out")
    vectors = read_vectors(tmp_path / "out" / VECTORS)
    assert vectors.texts.shape == (1, 8)
    assert vectors.text_of.tolist() == [0] * 30
    np.testing.assert_array_equal(vectors.images, np.stack([p.image for p in predictions]))


def test_predictions_without_questions_or_texts(tmp_path: Path) -> None:
    predictions = draw(3)[1]
    bare = [PairPrediction(p.id, p.image) for p in predictions]
    names = {path.name for path in save(bare, Asked(), PairGold("none"), "test", tmp_path / "out")}
    assert names == {ASKED, VECTORS}
    assert read_vectors(tmp_path / "out" / VECTORS).texts.shape == (0, 8)


def test_maps_of_at_most_some_photos_whatever_their_order(tmp_path: Path) -> None:
    gold, predictions = draw(2 * MOST_MAPS)
    save(predictions, ASK, gold, "valid", tmp_path / "a")
    save(predictions[::-1], ASK, gold, "valid", tmp_path / "b")
    kept = load_file(tmp_path / "a" / MAPS)
    assert len(kept) == MOST_MAPS
    assert kept.keys() == load_file(tmp_path / "b" / MAPS).keys()
    by_id = {p.id: p.maps for p in predictions}
    assert all(np.array_equal(maps, by_id[name]) for name, maps in kept.items())  # type: ignore[arg-type]


def test_labels_are_read_back_as_gold(tmp_path: Path) -> None:
    gold, predictions = draw()
    save(predictions, ASK, gold, "test", tmp_path / "out")
    with (tmp_path / "out" / LABELS).open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["filename"] == "IMG_0000.jpg"
    assert all(CLASSES[int(row["label"])] == row["diag"] for row in rows)
    table = read_pair_table(tmp_path / "out" / LABELS, "test")
    assert score(table, predictions).scores["top1"] == score(gold, predictions).scores["top1"]


def test_memory_does_not_grow_with_the_vectors(tmp_path: Path) -> None:
    def stream(count: int) -> Iterator[PairPrediction]:
        for number in range(count):
            vector = np.full(4096, 1 / 64, np.float32)
            vector[number % 4096] += number
            yield PairPrediction(f"{number}", vector, vector)

    def peak(count: int, out: Path) -> int:
        tracemalloc.start()
        save(stream(count), Asked(), PairGold("none"), "train", out)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few = peak(50, tmp_path / "few")
    assert peak(1050, tmp_path / "many") - few < 2_000_000  # 1,000 more photos have 33 MB of vectors


def test_models_are_averaged_so_that_products_are_mean_cosines() -> None:
    first, second = draw(2, seed=1)[1], draw(2, seed=2)[1]
    both = [PairPrediction.mean_of(pair) for pair in zip(first, second, strict=True)]
    expected = (first[0].image @ first[1].image + second[0].image @ second[1].image) / 2
    assert both[0].image @ both[1].image == pytest.approx(expected, abs=1e-6)
    assert np.linalg.norm(both[0].image) == pytest.approx(1)
    with pytest.raises(ValueError, match="other classes"):
        PairPrediction.mean_of([first[0], replace(second[0], classes=("a", "b"))])
