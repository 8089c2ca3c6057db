"""data/sources/synthetic: same seed, same photo; lesions, outlines and answers that agree with each other."""

from itertools import combinations

import numpy as np
import pytest

from magic_cli.data.questions import load_questions
from magic_cli.data.sources.synthetic.cases import KINDS, SITES, Patient, make_patient
from magic_cli.data.sources.synthetic.drawing import ABSORB, TONES, Look, draw_photo, fractal, noise, outline

SIZE = (96, 128)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("cell", [1.5, 4.0, 50.0, 300.0])
def test_noise_has_the_size_and_unit_variance(cell: float) -> None:
    plane = noise(rng(), SIZE, cell, 2.0)
    assert plane.shape == SIZE
    assert plane.dtype == np.float32
    assert plane.std() == pytest.approx(1, abs=1e-3)
    assert fractal(rng(), SIZE, cell).std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("limb", [True, False])
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_every_kind_of_lesion_is_seen_in_the_photo(kind: int, limb: bool) -> None:
    photo = draw_photo(rng(kind), KINDS[kind].look, 2, limb, SIZE)
    assert photo.pixels.shape == (*SIZE, 3)
    assert photo.pixels.dtype == np.uint8
    inside = np.maximum.reduce(photo.fields)
    assert all(field.shape == SIZE for field in photo.fields)
    assert 0.002 < (inside > 0).mean() < 0.6
    if not limb:  # a lesion differs from the skin around it: in colour, or (warts) in the contrast of its relief
        lesion, skin = photo.pixels[inside > 0.1].astype(float), photo.pixels[inside < -0.8].astype(float)
        differs = np.abs(lesion.mean(0) - skin.mean(0)).max() > 6 or lesion.std() > 1.3 * skin.std()
        assert differs


def test_same_seed_same_photo() -> None:
    one, two, other = (draw_photo(rng(s), KINDS[2].look, 3, True, SIZE) for s in (5, 5, 6))
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert (one.pixels != other.pixels).any()


def test_tones_range_from_light_to_dark() -> None:
    look = Look("brown", radius=(0.05, 0.06))
    levels = [draw_photo(rng(1), look, tone, False, SIZE).pixels.mean() for tone in range(len(TONES))]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] - levels[-1] > 50


def test_count_of_lesions() -> None:
    for seed in range(5):
        assert len(draw_photo(rng(seed), Look("red"), 1, False, SIZE).fields) == 1
        several = draw_photo(rng(seed), Look("red", count=(3, 5), radius=(0.05, 0.1)), 1, True, SIZE).fields
        assert 3 <= len(several) <= 5


def test_outlines_agree_but_differ() -> None:
    photo = draw_photo(rng(3), Look("red", radius=(0.2, 0.25)), 1, False, (192, 256))
    truth = (photo.fields[0] > 0).astype(np.uint8)
    masks = [outline(rng(seed), photo.fields, care) for seed, care in enumerate((0.9, 0.7, 0.5, 0.8))]
    for mask in masks:
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 1}
        assert dice(mask, truth) > 0.6
    for a, b in combinations(masks, 2):
        assert 0.6 < dice(a, b) < 1
    careless = np.mean([dice(outline(rng(s), photo.fields, 0.3), truth) for s in range(20)])
    careful = np.mean([dice(outline(rng(s), photo.fields, 0.95), truth) for s in range(20)])
    assert careful > careless


def test_outline_is_never_empty_and_stays_near_the_lesion() -> None:
    field = np.full(SIZE, -2, np.float32)
    field[2, 3] = 1e-6  # a lesion of one pixel at the corner, which any shift or wobble can lose
    for seed in range(30):
        mask = outline(rng(seed), (field,), 0.2)
        assert mask.any()
        assert not mask[10:, :].any()
        assert not mask[:, 12:].any()


def cases(count: int = 120) -> list[Patient]:
    return [make_patient(rng(number), number) for number in range(count)]


def test_answers_are_options_of_the_schema() -> None:
    codec = load_questions(None)
    for case in cases():
        assert set(case.answers) == set(codec.parents)
        for parent, texts in case.answers.items():
            assert len({codec.index(codec.parents[parent][0], text) for text in texts}) == len(texts)
        assert case.look.colour in ABSORB


def test_text_tells_what_the_answers_say() -> None:
    for case in cases():
        sites = case.answers["CQID011"]
        for site, words in SITES.items():
            assert (site in sites) == any(f"my {word}" in case.content for word in words)
        itchy = any(word in case.content.lower() for word in ("itch", "scratching"))
        assert itchy == (case.answers["CQID025"] != ("Not mentioned",))


def test_cases_vary() -> None:
    found = cases()
    assert len({case.content for case in found}) > 110
    assert {case.answers["CQID025"] for case in found} == {("yes",), ("no",), ("Not mentioned",)}
    assert len({case.answers["CQID034"] for case in found}) >= 9
    assert {case.photos for case in found} == {1, 2, 3}
    assert {case.tone for case in found} == set(range(len(TONES)))
    assert {case.answers["CQID010"][0] for case in found} == {"single spot", "limited area", "widespread"}
    for case in found:
        assert (case.answers["CQID035"] == ("single",)) == (case.look.count == (1, 1))
