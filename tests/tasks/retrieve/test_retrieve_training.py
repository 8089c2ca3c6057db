"""Training of composed retrieval: it learns, words count where they tell, batches are balanced, resuming is exact."""

import json
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lesion_cases import CLASSES, lesion_cases, lesion_trainer
from stopped_runs import stop_after
from torch import Tensor

from magic_cli.data.imaging.images import open_record
from magic_cli.data.retrieval.queries import query_of, query_parts, retrieval_gold, without_some
from magic_cli.errors import ConfigError, Interrupted
from magic_cli.records import Sample
from magic_cli.tasks.retrieve import TASK
from magic_cli.tasks.retrieve.model.composed import RetrieveModel
from magic_cli.tasks.retrieve.predictions import RetrievalPrediction
from magic_cli.tasks.retrieve.score import score
from magic_cli.training.inference import predict
from magic_cli.training.loader import ClassBatches, Views, WholeBatches
from magic_cli.training.task import of_class
from magic_cli.training.trainer import Trainer

FAST = ("lr=1e-2", "encoder_lr=1e-2", "epochs=40", "attribute_dropout=0", "dropout=0")


def ranked(
    trainer: Trainer, queries: list[Sample], gallery: list[Sample], protocol: str = "loo"
) -> list[RetrievalPrediction]:
    gold = retrieval_gold("drawn", queries, tuple(gallery), protocol)
    TASK.before_predicting(trainer.core, lambda: gold)
    rows = predict(trainer.core, queries, trainer.config, trainer.accelerator)
    return [of_class(row, RetrievalPrediction) for row in rows]


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("objective", ["multi_positive", "batch", "classifier"])
def test_twelve_cases_are_learned(objective: str, tmp_path: Path) -> None:
    samples = lesion_cases(tmp_path / "photos")
    trainer = lesion_trainer(samples, tmp_path / "run", *FAST, f"objective={objective}")
    trainer.run(False)
    predictions = ranked(trainer, samples, samples)
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
    assert score(retrieval_gold("drawn", samples, tuple(samples), "loo"), predictions).scores["map"] > 0.95
    for row, prediction in enumerate(predictions):
        assert np.isnan(prediction.scores).nonzero()[0].tolist() == [row]  # no query finds its own photo


def test_words_lead_to_photos_of_their_class(tmp_path: Path) -> None:
    """A photo of one class, with the words of another, is nearer to photos of the other than with its own words."""
    samples = lesion_cases(tmp_path / "photos")
    trainer = lesion_trainer(samples, tmp_path / "run", *FAST)
    trainer.run(False)
    nevus = samples[4]
    asked = [nevus, *(query_with(nevus, samples[0]),)]
    plain, changed = ranked(trainer, asked, samples)
    melanomas = [place for place, name in enumerate(plain.gallery) if name.startswith("melanoma")]
    assert np.nanmean(changed.scores[melanomas]) > np.nanmean(plain.scores[melanomas])


def test_class_probabilities_agree_beside_levels_and_regions(tmp_path: Path) -> None:
    samples = lesion_cases(tmp_path / "photos")
    trainer = lesion_trainer(samples, tmp_path / "run", *FAST, "epochs=20", "class_weight=1", "class_share=0.25")
    trainer.run(False)
    both = np.stack([row.scores for row in ranked(trainer, samples, samples)])
    model = of_class(trainer.core, RetrieveModel)
    model.config = replace(model.config, class_share=0.0)
    plain = np.stack([row.scores for row in ranked(trainer, samples, samples)])
    agreement = (both - 0.75 * plain) / 0.25
    classes = np.array([sample.case.label for sample in samples])
    same = classes[:, None] == classes
    assert np.nanmin(agreement[same]) > 0.5
    assert np.nanmax(agreement[~same]) < 0.4
    assert np.nanmax(np.abs(agreement)) < 1 + 1e-5


def query_with(photo: Sample, words: Sample) -> Sample:
    case = photo.case
    changed = type(case)(case.case_id, case.split, case.image_ids, {}, question=words.case.question, label=case.label)
    return Sample(photo.id, changed, photo.images)


def test_image_only_hears_no_words(tmp_path: Path) -> None:
    samples = lesion_cases(tmp_path / "photos")
    trainer = lesion_trainer(samples, tmp_path / "run", "composition=none", "epochs=1")
    trainer.run(False)
    plain, changed = ranked(trainer, [samples[4], query_with(samples[4], samples[0])], samples)
    assert plain.scores.tobytes() == changed.scores.tobytes()
    assert all(not name.startswith("texts.") for name in trained_names(trainer))


def trained_names(trainer: Trainer) -> list[str]:
    return [name for name, parameter in trainer.core.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("composition=tirg",),
        ("objective=classifier",),
        ("local=regionwise", "diversity=0.1", "supcon=0.5"),
        ("loss_on=final",),
    ],
    ids=str,
)
def test_every_trained_weight_has_a_gradient(settings: tuple[str, ...], tmp_path: Path) -> None:
    """One without would stop a training on several processes."""
    samples = lesion_cases(tmp_path / "photos")
    core = lesion_trainer(samples, tmp_path / "run", *settings).core
    core.train()
    core.loss(core.collate(samples, [0] * len(samples))).backward()
    silent = [name for name, parameter in core.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert silent == []


@pytest.mark.parametrize("settings", [(), ("class_weight=1", "class_share=0.25")], ids=["levels", "and classes"])
def test_vectors_of_a_photo_do_not_depend_on_words_nor_on_the_gallery(
    settings: tuple[str, ...], tmp_path: Path
) -> None:
    samples = lesion_cases(tmp_path / "photos")
    trainer = lesion_trainer(samples, tmp_path / "run", "epochs=1", *settings)
    trainer.run(False)
    encoder = TASK.case_encoder(trainer.core)
    rows = encoder.photos(samples)
    others = encoder.photos([query_with(samples[0], samples[5]), *samples[::-1]])
    assert np.allclose(rows[0], others[0], atol=1e-6)
    assert np.allclose(rows, others[:0:-1], atol=1e-5)
    assert np.allclose((rows**2).sum(1), len(encoder.parts), atol=1e-4)
    assert sum(part.width for part in encoder.parts) == rows.shape[1]
    query = encoder.query(open_record(samples[0].images[0]), "no streaks", beta=0)
    photo = open_record(samples[3].images[0])
    assert encoder.regions([photo])[0].shape[0] == encoder.region_count
    assert query.regions is not None
    local = np.concatenate([np.full(part.width, part.kind == "local") for part in encoder.parts])
    assert not query.vector[local].any()
    prediction = ranked(trainer, samples[:1], samples)[0].scores
    asked = encoder.query(open_record(samples[0].images[0]), query_of(samples[0].case))
    assert np.allclose((rows @ asked.vector / asked.weight)[1:], prediction[1:], atol=1e-5)


def test_a_stopped_run_ends_in_the_bytes_of_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = lesion_cases(tmp_path / "photos")
    settings = ("batch_size=6", "epochs=2")

    def train(name: str, resume: bool = False) -> dict[str, Tensor]:
        trainer = lesion_trainer(samples, tmp_path / name, *settings)
        trainer.run(resume)
        return {key: tensor.clone() for key, tensor in trainer.core.state_dict().items()}

    whole = train("whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 3, signal.SIGINT)
        with pytest.raises(Interrupted):
            train("stopped")
    resumed = train("stopped", resume=True)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def batches(classes: list[str], size: int, least: int, processes: int = 1, epoch: int = 0) -> list[list[list[int]]]:
    data = Views([None] * len(classes), seed=3)  # type: ignore[list-item]
    data.epoch = epoch
    shares = [WholeBatches(data, size, 1, rank, processes) for rank in range(processes)]
    return [list(ClassBatches(share, classes, least)) for share in shares]


def test_every_class_comes_as_often_however_rare() -> None:
    classes = ["nevus"] * 80 + ["melanoma"] * 12 + ["keratosis"] * 8
    (own,) = batches(classes, 24, 8)
    assert len(own) == 4
    for batch in own:
        assert Counter(classes[index] for index in batch) == dict.fromkeys(CLASSES, 8)
    assert batches(classes, 24, 8) == batches(classes, 24, 8)
    assert batches(classes, 24, 8) != batches(classes, 24, 8, epoch=1)
    first, second = batches(classes, 24, 8, processes=2)
    assert [sorted(a + b) for a, b in zip(first, second, strict=True)] == [sorted(batch) for batch in own]


def test_of_many_classes_a_batch_has_as_many_as_fit_and_all_come_in_turn() -> None:
    classes = [str(number % 10) for number in range(60)]
    (own,) = batches(classes, 12, 4)
    seen = Counter(classes[index] for batch in own for index in batch)
    assert {len({classes[index] for index in batch}) for batch in own} == {3}
    assert len(seen) == 10


def test_words_lose_whole_attributes(tmp_path: Path) -> None:
    case = lesion_cases(tmp_path)[0].case
    told = {part.words for part in query_parts(case)}
    assert without_some(case, 0, "x") == query_of(case)
    texts = {without_some(case, 0.5, str(seed)) for seed in range(40)}
    assert "" in texts
    assert query_of(case) in texts or len(texts) > 3
    for text in texts:
        rest = text
        for words in told:
            rest = rest.replace(words, "")
        assert "atypical" not in rest or not told
    assert without_some(case, 0.5, "1") == without_some(case, 0.5, "1")


def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    samples = lesion_cases(tmp_path / "photos")
    refused = {
        "heads=5": "not divisible by heads",
        "cases_per_class=1": "without a positive",
        "class_share=1": "needs a classifier",
    }
    for setting, message in refused.items():
        with pytest.raises(ConfigError, match=message):
            lesion_trainer(samples, tmp_path / "run", setting)
