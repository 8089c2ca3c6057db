"""`magic predict cvqa --neighbours`: which cases are found, which never, and what is refused."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magic_cli import tasks
from magic_cli.commands import predict as verb
from magic_cli.commands.cases import neighbours as module
from magic_cli.commands.cases.build import hash_of, model_name
from magic_cli.data.index import create_index
from magic_cli.data.index.base import IndexedCase, IndexInfo, Part
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.errors import ConfigError, DataError
from magic_cli.io import schema
from magic_cli.records import Case
from magic_cli.tasks.cvqa.answers import AnswerPrediction
from magic_cli.training.case_encoder import EncodedQuery
from magic_cli.training.task import NeighbourWeight

DIM = 4


def vector(photo: Image.Image) -> np.ndarray:
    values = np.array([*np.asarray(photo.resize((1, 1)), np.float32).ravel(), 30])
    return np.asarray(values / np.linalg.norm(values), np.float32)


@dataclass
class Colours:
    """An encoder by mean colour."""

    needs_photo: bool = False

    def query(self, photo: Image.Image, text: str, beta: float | None = None) -> EncodedQuery:  # noqa: ARG002
        assert bool(text) == self.needs_photo
        return EncodedQuery(vector(photo), vector(photo), 1.0)


@pytest.fixture(scope="module")
def data(drawn_prepared: Path) -> Prepared:
    return open_prepared(drawn_prepared)


@pytest.fixture
def place(data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An index of split train, one photo more, and a file that stands for its model."""
    monkeypatch.setattr(module, "encoder_of", lambda *_: (Colours(), 0, 1))
    digest = hashlib.sha256(b"model").hexdigest()
    info = IndexInfo(digest, (Part("image", DIM),), fields=("group",))
    images = [image for image in data.images_of("train") if image.path is not None]
    cases = [IndexedCase(i.image_id, {"group": hash_of(data.cases[i.case_id].group_id)}, i.sha256) for i in images]
    vectors = [vector(Image.open(str(image.path)).convert("RGB")) for image in images]
    with create_index(tmp_path / "index", info) as index:
        index.add([*cases, IndexedCase("of another dataset")], np.stack([*vectors, vectors[0]]))
    (tmp_path / "index" / model_name(digest)).write_bytes(b"model")
    return str(tmp_path / "index")


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_case_finds_other_cases_of_split_train_and_never_its_own(data: Prepared, place: str, split: str) -> None:
    cases = data.cases_of(split)
    found, unknown = module.find_neighbours(cases, data, module.NeighbourOptions(place, count=5))
    assert unknown == 1
    assert found.keys() == {case.case_id for case in cases}
    for case in cases:
        names = [neighbour.case_id for neighbour in found[case.case_id]]
        assert len(set(names)) == 5
        groups = {data.cases[name].group_id for name in names}
        assert case.case_id not in names
        assert case.group_id not in groups
        scores = [neighbour.similarity for neighbour in found[case.case_id]]
        assert scores == sorted(scores, reverse=True)
        assert all(neighbour.answers == data.cases[neighbour.case_id].answers for neighbour in found[case.case_id])
        assert {data.cases[name].split for name in names} == {"train"}


def test_words_are_composed_where_the_model_does(data: Prepared, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "encoder_of", lambda *_: (Colours(needs_photo=True), 0, 1))
    assert module.find_neighbours(data.cases_of("valid")[:1], data, module.NeighbourOptions(place))[0]


def test_an_index_without_cases_of_the_dataset_is_refused(data: Prepared, tmp_path: Path) -> None:
    with create_index(tmp_path / "index", IndexInfo("0" * 64, (Part("image", DIM),))) as index:
        index.add([IndexedCase("other")], np.eye(DIM, dtype=np.float32)[:1])
    with pytest.raises(DataError, match="none of an answered case of split train"):
        module.find_neighbours((), data, module.NeighbourOptions(str(tmp_path / "index")))


def guesses(cases: tuple[Case, ...], data: Prepared) -> list[AnswerPrediction]:
    sizes = {qid: question.size for qid, question in data.questions.by_qid.items()}
    flat = {qid: np.full(size, 1 / size, np.float32) for qid, size in sizes.items()}
    return [AnswerPrediction(case.case_id, flat) for case in cases]


@pytest.mark.parametrize(("weight", "split"), [(None, "valid"), (None, "test"), (0.0, "test")])
def test_the_weight_is_chosen_on_split_valid_or_given(
    data: Prepared, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: float | None, split: str
) -> None:
    monkeypatch.setattr(verb, "predictions", lambda *a: iter(guesses(a[2].cases_of(a[3]), data)))
    options = verb.PredictOptions(neighbours=place, neighbour_weight=weight)
    task = tasks.get("cvqa")
    made, chosen, unknown = verb._predicted(task, ([], data), split, options)
    predictions = list(made)
    assert unknown == 1
    assert chosen is not None
    plain = guesses(data.cases_of(split), data)
    if weight is None:
        assert chosen.weight > 0
        assert (chosen.reached or 0) > (chosen.without or 0)
    else:
        assert chosen == NeighbourWeight(0.0)
    files = task.write(predictions, data, tmp_path / "with")
    task.write(plain, data, tmp_path / "without")
    same = (tmp_path / "with" / files[0].name).read_bytes() == (tmp_path / "without" / files[0].name).read_bytes()
    assert same == (weight == 0.0)
    shown = json.loads((tmp_path / "with" / "neighbours.json").read_text(encoding="utf-8"))
    assert schema.problems("neighbours", shown, "") == []
    assert shown["encounters"].keys() == {case.case_id for case in data.cases_of(split)}


def test_what_is_refused(data: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="of another task than 'seg'"):
        verb.predict("seg", "best.pt", options=verb.PredictOptions(neighbours="index"))
    for wrong in ({"neighbour_weight": 0.5}, {"neighbours": "i", "neighbour_weight": 2}, {"neighbour_count": 0}):
        with pytest.raises(ConfigError):
            verb.PredictOptions(**wrong)
    task = tasks.get("cvqa")
    monkeypatch.setattr(type(task), "gold", lambda *_: ())
    with pytest.raises(ConfigError, match="--neighbour-weight"):
        verb._predicted(task, ([], data), "test", verb.PredictOptions(neighbours="index"))
