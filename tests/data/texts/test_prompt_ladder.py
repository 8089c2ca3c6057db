"""data/texts/prompt_ladder.py: every step contains the one before; what is known and what is not; who refuses it."""

import dataclasses
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_dataset import make_prepared

from magic_cli.data.pairs import pair_samples
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.data.prompts import LADDER
from magic_cli.data.questions import NO_QUESTIONS, load_questions
from magic_cli.data.texts.prompt_ladder import ladder, prompted, tells_gold, with_ladder
from magic_cli.errors import ConfigError, DataError
from magic_cli.records import Case
from magic_cli.tasks import get
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.seg import SegDecision
from magic_cli.tasks.seg.config import SegConfig

QUESTIONS = load_questions(None)

SETS = {"CQID010": {1}, "CQID011": {0, 5}, "CQID012": {0}, "CQID015": {2}, "CQID020": {0, 6}, "CQID025": {0}}
SETS |= {"CQID034": {2}, "CQID035": {1}, "CQID036": {1}}

ROW = QUESTIONS.to_slots(SETS)

ANSWERS = st.fixed_dictionaries({q.qid: st.integers(0, q.size - 1) for q in QUESTIONS.slots})


def case(split: str = "train", **changes: object) -> Case:
    return Case("c1", split, ("i1",), question="It itches.", answer="Eczema.", **changes)  # type: ignore[arg-type]


def test_the_ladder_of_closed_answers_and_a_diagnosis() -> None:
    texts = {"response-1": {"en": "This looks like psoriasis."}, "title": {"en": "Is it eczema?"}}
    steps = ladder(case(texts=texts, answers=ROW), QUESTIONS)
    assert steps[:3] == ("", "psoriasis", "raised or bumpy, crust psoriasis")
    assert steps[9] == (
        "multiple thumbnail-sized red raised or bumpy, crust psoriasis on the head, back, in a limited area, "
        "with a rough texture, itching, onset within weeks"
    )


def test_the_ladder_of_a_label_and_attributes() -> None:
    attributes = {"site": "Back", "pigment_network": "1", "streaks": "0", "itch": "true", "elevation": "palpable"}
    steps = ladder(case(label="nevus", attributes=attributes), NO_QUESTIONS)
    assert steps[1:3] == ("nevus", "palpable nevus")
    assert steps[9] == "palpable nevus on the back, with pigment network, itching"


@settings(max_examples=50, deadline=None)
@given(row=ANSWERS, label=st.sampled_from([None, "nevus", "BCC", "benign"]))
def test_every_step_contains_the_one_before(row: dict[str, int], label: str | None) -> None:
    steps = ladder(case(answers=row, label=label), QUESTIONS)
    assert len(steps) == len(LADDER)
    assert all(first in second for first, second in itertools.pairwise(steps))
    assert all(step == " ".join(step.split()) for step in steps)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_without_gold_there_are_no_words_and_with_it_there_are_in_any_split(split: str) -> None:
    unknown = QUESTIONS.to_slots(QUESTIONS.empty_sets())
    assert ladder(case(split), QUESTIONS) == ladder(case(split, answers=unknown), QUESTIONS) == ("",) * 10
    assert ladder(case(split, answers=ROW), QUESTIONS)[1] == "skin lesion"


def test_a_step_takes_the_place_of_the_prompt_or_all_stand_beside_it() -> None:
    found = prompted(case(label="nevus"), "p1", QUESTIONS)
    assert (found.question, found.answer) == ("nevus", "")
    beside = with_ladder(case(label="nevus"), QUESTIONS)
    assert (beside.question, beside.answer) == ("It itches.", "Eczema.")
    assert [beside.texts[f"prompt-{step}"]["en"] for step in LADDER] == ["", *["nevus"] * 9]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return open_prepared(make_prepared(tmp_path_factory.mktemp("ladder")))


def test_the_setting_and_the_option_of_seg(prepared: Prepared) -> None:
    seg = get("seg")
    own, named = (seg.training_samples(prepared, "train", SegConfig(prompt=p)) for p in ("own", "p9"))
    assert own[0].case == prepared.cases[own[0].case.case_id]
    assert [s.case.question for s in named] == [ladder(s.case, prepared.questions)[9] for s in own]
    drawn = seg.training_samples(prepared, "train", SegConfig(prompt="any"))[0].case
    assert drawn.question == own[0].case.question
    assert drawn.texts["prompt-p9"]["en"] == named[0].case.question
    asked = seg.configured({}, SegDecision(prompt="p0"))
    assert {s.case.question for s in asked.prediction_samples(prepared, "valid", SegConfig(prompt="p9"))} == {""}
    assert asked.facts() == {"prompt": "p0"}
    lines = seg.data_warnings(prepared, own, SegConfig(prompt="p3"))
    assert lines == [
        "prompt p3 is made from gold answers and classes: its scores are upper bounds of what a text can give"
    ]
    assert list(seg.data_warnings(prepared, own, SegConfig(prompt="p0"))) == []
    with pytest.raises(ConfigError, match="--prompt: got p10, expected own, p0"):
        SegDecision(prompt="p10")


def with_prompt(prepared: Prepared, step: str) -> Prepared:
    manifest = prepared.manifest
    return dataclasses.replace(
        prepared, manifest=dataclasses.replace(manifest, settings=dataclasses.replace(manifest.settings, prompt=step))
    )


def test_tasks_that_predict_what_the_prompt_tells_refuse_it(prepared: Prepared) -> None:
    told = with_prompt(prepared, "p1")
    with pytest.raises(DataError, match="got texts made from gold answers and classes"):
        get("cvqa").training_samples(told, "train", CvqaConfig())
    with pytest.raises(DataError, match="gold answers"):
        pair_samples(told, "train")
    assert get("seg").training_samples(told, "train", SegConfig())
    assert pair_samples(with_prompt(prepared, "p0"), "train")
    assert [step for step in ("qa", *LADDER) if tells_gold(step)] == list(LADDER[1:])


def test_photos_of_no_dataset_have_no_ladder(tmp_path: Path) -> None:
    from magic_cli.commands.prediction.options import PredictOptions

    with pytest.raises(ConfigError, match="--prompt with --images"):
        PredictOptions(prompt="p1", images=(tmp_path,))
