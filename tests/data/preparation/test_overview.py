"""The overview of a dataset: balance of answers and attributes, sizes, photos per case; by hand."""

from collections.abc import Sequence
from dataclasses import replace

from magic_cli.data.imaging.lesion_share import LesionShare
from magic_cli.data.manifest import PrepareManifest, PrepareSettings
from magic_cli.data.preparation.overview import Overview
from magic_cli.data.preparation.overview_counter import MOST_KINDS, OverviewCounter
from magic_cli.data.questions import NO_QUESTIONS, QuestionSchema, parse_questions
from magic_cli.records import SPLITS, Case, ImageRecord

QUESTIONS = parse_questions(
    [
        {"qid": "Q1-001", "question_en": "1 Where?", "options_en": ["head", "back", "Not mentioned"]},
        {"qid": "Q1-002", "question_en": "2 Where?", "options_en": ["head", "back", "Not mentioned"]},
        {"qid": "Q2-001", "question_en": "Itchy?", "options_en": ["yes", "no"]},
        {"qid": "Q3-001", "question_en": "When?", "options_en": ["days", "weeks"]},
    ],
    "definitions",
)

EMPTY = {"train": 0, "valid": 0, "test": 0}


def counted(
    cases: Sequence[Case], photos: Sequence[ImageRecord] = (), questions: QuestionSchema = NO_QUESTIONS
) -> Overview:
    counter = OverviewCounter(questions)
    for case in cases:
        counter.add_case(case)
    for photo in photos:
        counter.add_image(photo)
    return counter.overview({"train": [LesionShare(share, 0.0) for share in (0.0, 0.009, 0.07, 1.0)]})


def case(number: int, split: str = "train", **facts: str) -> Case:
    return Case(f"C{number}", split, (f"P{number}",), attributes=facts)


def photo(name: str, split: str = "train", height: int = 480, width: int = 640) -> ImageRecord:
    return ImageRecord(name, name.partition("-")[0], split, f"/{name}.jpg", height, width)


def answered(number: int, split: str, *options: int) -> Case:
    return replace(case(number, split), answers=dict(zip(QUESTIONS.by_qid, options, strict=True)))


def test_answers_are_counted_as_sets_without_padding() -> None:
    cases = [
        answered(1, "train", 0, 1, 0, 0),
        answered(2, "train", 1, 0, 0, 0),
        answered(3, "train", 0, 2, 0, 0),
        answered(4, "train", 2, 2, 0, 0),
        answered(5, "valid", 1, 1, 0, 1),
    ]
    found = counted(cases, questions=QUESTIONS)
    where, itch, when = found.answers.values()
    assert (where.question, where.options) == ("Where?", ("head", "back", "Not mentioned"))
    assert where.cases == {"train": 4, "valid": 1, "test": 0}
    assert where.counts == {"train": (3, 2, 1), "valid": (0, 1, 0), "test": (0, 0, 0)}
    assert found.constant() == {"Q2": ("yes",)}
    assert [balance.untaught() for balance in (where, itch, when)] == [[], [], ["weeks"]]
    assert counted([case(1)], questions=QUESTIONS).answers == {}


def test_an_answer_of_several_options_may_be_the_only_one() -> None:
    rows = [answered(1, "train", 0, 1, 0, 0), answered(2, "valid", 1, 0, 1, 1)]
    assert counted(rows, questions=QUESTIONS).constant() == {"Q1": ("head", "back")}


def test_values_of_attributes() -> None:
    cases = [
        case(k, SPLITS[k % 3], sex="fm"[k % 2], note=f"said {k}", concepts="scale; crust" if k % 2 else "scale", age="")
        for k in range(12)
    ]
    found = counted(cases).attributes
    assert list(found) == ["concepts", "note", "sex"]  # without the empty one
    assert found["sex"].counts == {
        "f": {"train": 2, "valid": 2, "test": 2},
        "m": {"train": 2, "valid": 2, "test": 2},
    }
    assert {name: sum(counts.values()) for name, counts in found["concepts"].counts.items()} == {
        "scale": 12,
        "crust": 6,
    }
    assert (found["note"].kinds, found["note"].counts) == (12, {})  # free text stays where it is
    one = counted([*cases, case(12, "test", lesion="L"), case(13, "test", lesion="L")]).attributes["lesion"]
    assert (one.kinds, one.counts, one.without) == (1, {}, {"train": 4, "valid": 4, "test": 4})


def test_numbers_of_many_kinds_have_a_histogram() -> None:
    ages = counted([case(k, age=str(20 + k // 2)) for k in range(60)]).attributes["age"]
    assert (ages.kinds, ages.counts) == (30, {})
    assert ages.numbers is not None
    assert ages.numbers.edges == tuple(range(20, 52, 2))
    assert ages.numbers.counts == {"train": (4,) * 15, "valid": (0,) * 15, "test": (0,) * 15}
    few = counted([case(k, skin_type=str(k % 6)) for k in range(60)]).attributes["skin_type"]
    assert few.numbers is None
    assert len(few.counts) == 6


def test_values_are_not_remembered_without_end() -> None:
    found = counted([case(k, file=f"{k}.jpg") for k in range(MOST_KINDS + 50)]).attributes["file"]
    assert (found.kinds, found.counts, found.numbers, found.without) == (MOST_KINDS, {}, None, EMPTY)


def test_photos_and_their_sizes() -> None:
    photos = [photo("C1-1"), photo("C1-2", height=640, width=480), photo("C2-1", height=30, width=90)]
    photos += [photo("C4-1", "valid", 200, 1000)]
    found = counted([case(1), case(2), case(3), case(4, "valid")], photos)
    assert found.photos_per_case == {
        "0": {"train": 1, "valid": 0, "test": 0},
        "1": {"train": 1, "valid": 1, "test": 0},
        "2": {"train": 1, "valid": 0, "test": 0},
    }
    sizes = found.photos
    assert sizes is not None
    assert (sizes.kinds, sizes.shortest, sizes.median, sizes.longest) == (4, 30, 340.0, 480)
    assert sizes.frequent == {"90 x 30": 1, "480 x 640": 1, "640 x 480": 1, "1000 x 200": 1}
    assert sizes.shorter_sides.edges[:3] == (0, 50, 100)
    assert sum(sizes.shorter_sides.counts["train"]) == 3
    assert counted([case(1)]).photos is None


def test_shares_of_lesions() -> None:
    lesions = counted([]).lesions
    assert lesions is not None
    assert lesions.counts["train"] == (2, 0, 0, 1, 0, 0, 0, 0, 0, 1)
    assert lesions.total == lesions.counts["train"]


def test_cases_with_a_photo_and_a_text() -> None:
    told = replace(case(1), texts={"raw": {"en": "plaque"}})
    found = counted(
        [told, replace(told, case_id="C2", image_ids=()), case(3), replace(case(4, "test"), question="itch")]
    )
    assert found.with_text == {"train": 1, "valid": 0, "test": 1}


def test_json_and_back() -> None:
    cases = [answered(k, "train", 0, k % 2, 0, 0) for k in range(30)]
    cases += [case(100 + k, sex="f", age=str(k)) for k in range(30)]
    overview = counted(cases, [photo("C1-1")], QUESTIONS)
    manifest = replace(PrepareManifest.of_counts(PrepareSettings("or", "qa", responses=True), {}), overview=overview)
    assert PrepareManifest.from_json(manifest.to_json()).overview == overview
