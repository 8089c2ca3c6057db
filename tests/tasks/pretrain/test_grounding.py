"""Presence of classes and grounding of maps: known maps and masks in, their scores and intervals out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pair_predictions import CLASSES, draw

from magic_cli.data.gold import GoldImage, MaskGold
from magic_cli.data.imaging.masks import write_mask
from magic_cli.data.pair_gold import PairGold
from magic_cli.metrics import bootstrap
from magic_cli.submission.pairs import SubmittedPair
from magic_cli.tasks.pretrain.grounding import NAMES, OTHERS, grounding
from magic_cli.tasks.pretrain.predictions import PairPrediction
from magic_cli.tasks.pretrain.score import score

SIDE = 8


def corner(number: int) -> NDArray[np.uint8]:
    """A square in one of four corners."""
    mask = np.zeros((SIDE * 4, SIDE * 4), np.uint8)
    top, left = divmod(number % 4, 2)
    mask[top * 16 : top * 16 + 16, left * 16 : left * 16 + 16] = 1
    return mask


def with_masks(gold: PairGold, folder: Path, prior: float = 0.2) -> PairGold:
    images = {}
    for number, name in enumerate(sorted(gold.groups)):
        path = folder / f"{name}_mask_ann0.tiff"
        write_mask(path, corner(number))
        images[name] = GoldImage(name, {"ann0": str(path)})
    masks = MaskGold("masks", images, prior=np.full((4, 4), prior, np.float32))
    return replace(gold, masks=masks)


def submitted(prediction: PairPrediction, **more: NDArray[np.float32] | None) -> SubmittedPair:
    return SubmittedPair(
        prediction.id,
        image=prediction.image,
        text=prediction.text,
        classes=prediction.classes,
        class_scores=prediction.class_scores,
        **more,
    )


def heat(number: int, noise: int) -> NDArray[np.float32]:
    random = np.random.default_rng(noise).normal(0, 0.05, (SIDE, SIDE))
    return (corner(number)[::4, ::4] * 0.6 + random).astype(np.float32)


def test_maps_on_their_lesions_are_grounded_and_those_of_others_are_not(tmp_path: Path) -> None:
    gold, predictions = draw(24)
    gold = with_masks(gold, tmp_path)
    place = {name: number for number, name in enumerate(sorted(gold.groups))}
    pairs = [submitted(p, heat=heat(place[p.id], place[p.id])) for p in predictions]
    scores = score(gold, pairs)
    assert scores.extra["grounding_cnr"] > 2
    assert scores.extra["grounding_abs_cnr"] == pytest.approx(scores.extra["grounding_cnr"])
    assert scores.extra["grounding_miou"] > 0.8
    others, prior = (scores.baselines[name] for name in (OTHERS, "training mean mask"))
    assert others["grounding_cnr"] < 0
    assert others["grounding_miou"] < 0.2
    assert prior["grounding_cnr"] == pytest.approx(0)
    assert prior["grounding_miou"] == pytest.approx(0.25 / 5)  # all is above 0.1, nothing above 0.2
    assert "grounding: maps of 24 photos that have masks and a text" in scores.notes
    assert scores.encounter_sums is not None
    found = bootstrap.intervals(scores.encounter_sums, 200, 0)
    for name in NAMES:
        assert found[name].low <= scores.extra[name] <= found[name].high
        assert found[name].low > others[name]


def test_inverted_maps_differ_by_their_sign_alone(tmp_path: Path) -> None:
    gold, predictions = draw(12)
    gold = with_masks(gold, tmp_path)
    place = {name: number for number, name in enumerate(sorted(gold.groups))}
    maps = {p.id: heat(place[p.id], 0) for p in predictions}
    right, wrong = grounding(gold, maps), grounding(gold, {name: -each for name, each in maps.items()})
    assert right is not None
    assert wrong is not None
    assert wrong.scores()["grounding_cnr"] == pytest.approx(-right.scores()["grounding_cnr"])
    assert wrong.scores()["grounding_abs_cnr"] == pytest.approx(right.scores()["grounding_abs_cnr"])
    assert wrong.scores()["grounding_miou"] < right.scores()["grounding_miou"]


def test_without_masks_or_maps_or_in_training_nothing_is_scored(tmp_path: Path) -> None:
    gold, predictions = draw(12)
    plain = score(gold, predictions)
    assert not any(name in plain.extra for name in NAMES)
    assert score(with_masks(gold, tmp_path), predictions).extra == plain.extra
    empty = replace(gold, masks=MaskGold("no masks"))
    assert not set(NAMES) & score(empty, [submitted(p, heat=heat(0, 0)) for p in predictions]).extra.keys()


def test_presence_tells_the_photos_of_a_class_from_the_others() -> None:
    """Each class against the photos without it, so that prompts which are high everywhere gain nothing."""
    gold, predictions = draw(60)
    offsets = np.linspace(-0.4, 0.4, len(CLASSES)).astype(np.float32)
    own = {p.id: CLASSES.index(gold.classes[p.id]) for p in predictions}
    one_hot = np.eye(len(CLASSES), dtype=np.float32) * np.float32(0.1)
    right = score(gold, [submitted(p, presence=offsets + one_hot[own[p.id]]) for p in predictions])
    wrong = score(gold, [submitted(p, presence=offsets - one_hot[own[p.id]]) for p in predictions])
    flat = score(gold, [submitted(p, presence=offsets) for p in predictions])
    assert right.extra["presence_auroc"] == 1
    assert wrong.extra["presence_auroc"] == 0
    assert flat.extra["presence_auroc"] == 0.5 == flat.baselines["chance"]["presence_auroc"]
    assert right.scores == flat.scores  # of the vectors, which are the same
    assert right.encounter_sums is not None
    assert "presence_auroc" in bootstrap.intervals(right.encounter_sums, 50, 0)
