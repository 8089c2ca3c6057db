"""tasks/cvqa/model.py, head "slots": its inputs, what each setting changes, and what it learns from."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tiny_dataset import QUESTIONS, answers

from magic_cli.config import resolve
from magic_cli.data.text_rules import BLOCKS
from magic_cli.errors import ConfigError
from magic_cli.metrics.calibration import tempered
from magic_cli.records import Case, Sample
from magic_cli.tasks.cvqa import model as cvqa_model
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.cvqa.model import CvqaModel

TEXTS = ("It itches, on the hand, for two weeks", "A mole on my back since childhood", "Red spots, no itch")


def sample(number: int, text: str = "", **changes: Any) -> Sample:
    encounter = f"ENC{number:05}"
    texts = {"title": {"en": "Help"}, "content": {"en": text}}
    written = Case(encounter, "train", (), texts, f"Help {text}", "", answers(encounter))
    return Sample(encounter, dataclasses.replace(written, **changes), (), tuple(QUESTIONS.by_qid))


SAMPLES = [sample(number, text) for number, text in enumerate(TEXTS)]


def model(*settings: str) -> CvqaModel:
    config = resolve(CvqaConfig, "tiny", settings, modality="text")
    assert isinstance(config, CvqaConfig)
    torch.manual_seed(0)
    return cvqa_model.build(config, QUESTIONS)


def loss(made: CvqaModel, samples: Sequence[Sample] = SAMPLES) -> float:
    made.train()
    return made.loss(made.collate(samples, [0] * len(samples))).item()


def predicted(made: CvqaModel, samples: Sequence[Sample] = SAMPLES) -> list[Any]:
    made.eval()
    with torch.inference_mode():
        return made.predict(made.collate(samples, [0] * len(samples)), 0)


def shaken(*settings: str) -> CvqaModel:
    """A model whose weights are not those it began with."""
    made = model(*settings)
    made.begin(SAMPLES)
    with torch.no_grad():
        made.head.linear.weight.normal_(0, 1)  # type: ignore[operator, union-attr]
    return made


def test_blocks_are_text_words_and_each_kind_of_rule() -> None:
    assert model().head.blocks == [32, 2048, *BLOCKS]
    assert model("hashed_words=0").head.blocks == [32, *BLOCKS]
    assert model("hashed_words=16", "rules=false").head.blocks == [32, 16]


def test_untrained_it_answers_with_the_training_prior() -> None:
    made = model()
    made.begin(SAMPLES)
    first, second = predicted(made, [SAMPLES[0], sample(9, "anything else")])
    rows = [QUESTIONS.canonical(s.case.answers or {}) for s in SAMPLES]
    counts = np.bincount([row["CQID010-001"] for row in rows], minlength=4) + 0.5
    assert first.probabilities["CQID010-001"] == pytest.approx(counts / counts.sum(), abs=1e-5)
    assert all(np.array_equal(values, second.probabilities[qid]) for qid, values in first.probabilities.items())


def test_rare_words_are_those_of_training_alone() -> None:
    made = model()
    made.begin(SAMPLES)
    before = made.rarity.clone()
    predicted(made, [sample(9, "words that nobody wrote before")])
    assert torch.equal(made.rarity, before)
    assert made.rarity.min() < made.rarity.max()
    assert "rarity" in made.state_dict()


@pytest.mark.parametrize("settings", [(), ("rules=false",), ("hashed_words=0",)])
def test_the_text_decides(settings: Sequence[str]) -> None:
    one, other = predicted(shaken(*settings), SAMPLES[:2])
    assert any(not np.allclose(one.probabilities[qid], other.probabilities[qid], atol=1e-3) for qid in QUESTIONS.by_qid)


def test_rules_read_the_languages_that_are_asked_for() -> None:
    both = sample(5, "no words", texts={"title": {"en": "", "zh": "瘙痒"}, "content": {"en": "calm", "zh": "两周"}})

    def rules(lang: str) -> torch.Tensor:
        found: torch.Tensor = model(f"lang={lang}").collate([both], [0]).rules
        return found

    assert not torch.equal(rules("en"), rules("zh"))
    assert torch.allclose(rules("en,zh"), (rules("en") + rules("zh")) / 2)
    assert torch.equal(rules("es"), model().collate([sample(5, "no words")], [0]).rules)  # no Spanish: the prompt


def test_the_penalty_grows_with_the_weights_and_can_be_left_out() -> None:
    assert loss(shaken("group_lasso=0.1", "dropout=0")) > loss(shaken("group_lasso=0", "dropout=0"))
    assert loss(shaken("group_lasso=0", "dropout=0")) == loss(shaken("group_lasso=0", "dropout=0"))


@pytest.mark.parametrize(("few", "many", "times"), [(6, 24, 2.0), (60, 240, 2.0), (240, 480, 2.0)])
def test_the_penalty_weighs_less_the_more_there_is_to_learn_from(few: int, many: int, times: float) -> None:
    """Of few encounters as one over the square root of their number, of 240 and more as one over it."""

    def penalty(encounters: int) -> float:
        made = model("dropout=0", "group_lasso=1000")
        made.begin(SAMPLES)
        made.encounters.fill_(encounters)
        with torch.no_grad():
            made.head.linear.weight.fill_(0.1)  # type: ignore[operator, union-attr]
        plain = dataclasses.replace(made.config, group_lasso=0.0)
        with_it = loss(made)
        made.config = plain
        return with_it - loss(made)

    assert penalty(few) == pytest.approx(times * penalty(many), rel=1e-3)


def test_the_penalty_counts_encounters_not_samples() -> None:
    made = model()
    made.begin([*SAMPLES, *SAMPLES])
    assert made.encounters == len(SAMPLES)


def test_a_joint_set_chooses_among_what_may_follow() -> None:
    """The likelihood of canonical answers can only grow when impossible ones are ruled out."""
    assert loss(shaken("joint_slots=true", "dropout=0")) < loss(shaken("dropout=0"))


def test_the_loss_over_parents_is_added() -> None:
    plain, twice = (loss(shaken(f"hierarchy={weight}", "dropout=0")) for weight in (0, 2))
    once = loss(shaken("hierarchy=1", "dropout=0"))
    assert once > plain
    assert twice - plain == pytest.approx(2 * (once - plain), rel=1e-4)


@pytest.mark.parametrize(
    "settings", [("joint_slots=true",), ("hierarchy=0.5",), ("option_term=true",), ("sample_unit=question",)]
)
def test_every_setting_trains(settings: Sequence[str]) -> None:
    made = model(*settings, "dropout=0", "group_lasso=0.01")
    made.begin(SAMPLES)
    optimizer = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], 0.05)
    before = loss(made)
    for _ in range(15):
        optimizer.zero_grad()
        made.loss(made.collate(SAMPLES, [0] * 3)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss(made) < 0.7 * before


@pytest.mark.parametrize("decode", ["slot", "set"])
def test_predictions_say_how_they_are_to_be_decided(decode: str) -> None:
    [found] = predicted(model(f"decode={decode}"), SAMPLES[:1])
    assert found.decode == decode
    assert found.probabilities.keys() == QUESTIONS.by_qid.keys()


@pytest.mark.parametrize("setting", ["lang=fr", "lang=en,en", "lang=", "lang=en;zh", "decode=best"])
def test_settings_that_do_not_exist(setting: str) -> None:
    with pytest.raises(ConfigError, match="expected one"):
        resolve(CvqaConfig, "small", [setting])


def test_a_joint_set_is_decided_as_a_set() -> None:
    with pytest.raises(ConfigError, match="decode=set"):
        resolve(CvqaConfig, "small", ["joint_slots=true", "decode=slot"])
    with pytest.raises(ConfigError, match="hierarchy"):
        resolve(CvqaConfig, "small", ["joint_slots=true", "hierarchy=1"])


def test_a_temperature_makes_answers_less_sure_and_no_others() -> None:
    (plain,), (warm,) = predicted(shaken(), SAMPLES[:1]), predicted(shaken("temperature=2"), SAMPLES[:1])
    for qid, values in plain.probabilities.items():
        np.testing.assert_allclose(warm.probabilities[qid], tempered(values, 2.0), atol=1e-5)
