"""Clinicians' responses as inputs of their own (responses=apart)."""

import numpy as np
import pytest
import torch
from tiny_dataset import QUESTIONS, answers

from magic_cli.config import resolve
from magic_cli.data.text_rules import BLOCKS
from magic_cli.records import Case, Sample
from magic_cli.tasks.cvqa import model as cvqa_model
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.cvqa.model import CvqaModel

QUERIES = ("It itches, on the hand, for two weeks", "A mole on my back since childhood", "Red spots, no itch")
RESPONSES = ("Eczema; hormone ointment for three days", "", "Does it itch? Hives, perhaps, or a bite on the leg")


def sample(number: int, response: str) -> Sample:
    encounter, texts = f"ENC{number:05}", {"title": {"en": "Help"}, "content": {"en": QUERIES[number]}}
    texts |= {"response-1": {"en": response}} if response else {}
    case = Case(encounter, "train", (), texts, f"Help {QUERIES[number]}", response, answers(encounter))
    return Sample(encounter, case, (), tuple(QUESTIONS.by_qid))


ANSWERED = [sample(number, response) for number, response in enumerate(RESPONSES)]
BARE = [sample(number, "") for number in range(len(QUERIES))]


def model(*settings: str) -> CvqaModel:
    config = resolve(CvqaConfig, "tiny", ["dropout=0", *settings], modality="text")
    torch.manual_seed(0)
    return cvqa_model.build(config, QUESTIONS)


def learned(samples: list[Sample], *settings: str) -> CvqaModel:
    made = model("responses=apart", "group_lasso=0.01", *settings)
    made.begin(samples)
    made.train()
    optimizer = torch.optim.Adam([each for each in made.parameters() if each.requires_grad], 0.05)
    for _ in range(10):
        optimizer.zero_grad()
        made.loss(made.collate(samples, [0] * len(samples))).backward()
        optimizer.step()
    return made


def probabilities(made: CvqaModel, samples: list[Sample]) -> list[np.ndarray]:
    made.eval()
    with torch.inference_mode():
        rows = made.predict(made.collate(samples, [0] * len(samples)), 0)
    return [np.concatenate(list(row.probabilities.values())) for row in rows]


def test_responses_are_blocks_of_their_own() -> None:
    for settings, words in (((), [2048]), (("hashed_words=0",), [])):
        made = model("responses=apart", *settings)
        assert made.head.blocks == [32, *words, *BLOCKS]
        assert made.responses.head.blocks == [32, *words]
    assert model("responses=joined").responses is None
    assert model("responses=apart", "head=options").responses is None
    assert model("responses=apart").reads_words == 2048


@pytest.mark.parametrize(("responses", "same"), [("apart", True), ("joined", False)])
def test_apart_they_overwrite_none_of_the_patients_words(responses: str, same: bool) -> None:
    made = model(f"responses={responses}")
    with_them, without = (made.collate(samples, [0] * 3) for samples in (ANSWERED, BARE))
    assert torch.equal(with_them.words, without.words) == same
    assert torch.equal(with_them.rules, without.rules) == same


@pytest.mark.parametrize("settings", [(), ("hashed_words=0",), ("joint_slots=true",), ("hierarchy=1",)])
def test_without_a_response_a_case_is_answered_as_by_a_model_that_was_trained_without(settings: tuple[str]) -> None:
    with_them, without = learned(ANSWERED, *settings), learned(BARE, *settings)
    pairs = list(zip(probabilities(with_them, BARE), probabilities(without, BARE), strict=True))
    assert all(np.allclose(ours, theirs, atol=1e-6) for ours, theirs in pairs)
    read = probabilities(with_them, ANSWERED)
    assert not np.allclose(read[0], pairs[0][0], atol=1e-3)
    assert np.allclose(read[1], pairs[1][0], atol=1e-6)  # of three, this one has no response


def test_a_model_that_never_saw_a_response_ignores_them() -> None:
    made = learned(BARE)
    pairs = zip(probabilities(made, BARE), probabilities(made, ANSWERED), strict=True)
    assert all(np.array_equal(bare, answered) for bare, answered in pairs)


def test_settings_of_earlier_checkpoints_still_mean_joined() -> None:
    assert CvqaConfig().responses == "joined"
    assert resolve(CvqaConfig, "small").responses == resolve(CvqaConfig, "quick").responses == "apart"
