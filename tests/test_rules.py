"""rules.py: sentence by sentence, and against the answers of the real training encounters."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from magic_cli.data.rules import BUCKETS, NAMES, bucket_of, first_duration, itch, rule_features

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "dermavqa-text"
WORDS = ("no", "itch", "not", "for", "3", "years", "old", "a", "hand", ".", ",", "-", "ago", "10", "but", "half")


def features(text: str) -> set[str]:
    """The names of the features that are on."""
    return {name for name, value in zip(NAMES, rule_features(text), strict=True) if value}


def sites(text: str) -> set[str]:
    return {name.removeprefix("site: ") for name in features(text) if name.startswith("site: ")}


# --- itch


@pytest.mark.parametrize(
    "text",
    [
        "There is no itching.",
        "It is not itchy",
        "It does not itch at all",
        "The spot appeared without any itch",
        "it isn't really itchy",
        "It doesn’t itch",
        "It never itched",
        "It no longer itches",
        "He denies pruritus",
        "The child didn't feel any itchiness",
        "neither painful nor itchy",
        "neither red, swollen, nor itchy",
        "no fever, no pain, no itching",
        "No pain, itching or bleeding",
        "a non-itchy rash",
        "a nonpruritic rash",
        "free of itch",
        "itching: none",
        "the itch is absent",
        "The itching was not present",
        "painless and itchless",
        "NO ITCHING",
    ],
)
def test_negated_itch(text: str) -> None:
    assert itch(text) == "no"
    assert {n for n in features(text) if n.startswith("itch")} == {"itch: no"}


@pytest.mark.parametrize(
    "text",
    [
        "It itches",
        "Very itchy!",
        "severe pruritus at night",
        "pruritic papules",
        "not only itchy but painful",
        "no pain but itchy",
        "There is no fever. Itching is strong",
        "It does not hurt; it itches",
        "no fluid, with mild itching",
        "I don't know why it itches",
        "I cannot stop itching",
        "The cream brought no relief from the itching",
        "itchy, no pain",
        "slight itching. No discomfort",
        "It no longer itches on the hand, the foot is still itchy",
        "no rash yesterday and none of my family has it, yet it itches",
    ],
)
def test_itch(text: str) -> None:
    assert itch(text) == "yes"
    assert {n for n in features(text) if n.startswith("itch")} == {"itch: yes"}


@pytest.mark.parametrize("text", ["", "red and painful", "in the kitchen", "no pain", "switching creams", "瘙痒"])
def test_silence_about_itch(text: str) -> None:
    assert itch(text) == "silent"
    assert {n for n in features(text) if n.startswith("itch")} == {"itch: silent"}


# --- durations


@pytest.mark.parametrize(
    ("text", "days", "bucket"),
    [
        ("for two weeks", 14, "weeks"),
        ("3 days ago", 3, "days"),
        ("half a year", 182.5, "months"),
        ("half a month", 15, "weeks"),
        ("a couple of months", 60, "months"),
        ("10+ years", 3650, "multiple years"),
        ("more than a year", 365, "over a year"),
        ("2-3 months", 60, "months"),
        ("3 to 4 days", 3, "days"),
        ("5 or 6 weeks", 35, "months"),
        ("one and a half years", 365, "over a year"),
        ("3 and a half years", 1095, "multiple years"),
        ("1.5 years", 547.5, "over a year"),
        ("forty days", 40, "months"),
        ("a dozen days", 12, "weeks"),
        ("several hours", 4 / 24, "hours"),
        ("half an hour", 0.5 / 24, "hours"),
        ("a few weeks", 21, "weeks"),
        ("over a decade", 3650, "multiple years"),
        ("since last night", 1, "days"),
        ("a two-year history", 730, "multiple years"),
        ("10years", 3650, "multiple years"),
        ("FOR TWO\n  WEEKS", 14, "weeks"),
        ("a 30-year-old man, for 2 days", 2, "days"),
        ("first 3 days of fever, for 2 months now", 3, "days"),
    ],
)
def test_durations(text: str, days: float, bucket: str) -> None:
    assert first_duration(text) == pytest.approx(days)
    assert {n for n in features(text) if n.startswith("onset")} == {f"onset: {bucket}"}


@pytest.mark.parametrize(
    "text",
    [
        "a 30-year-old man",
        "45 years old",
        "3 months old baby",
        "a 3 month-old girl",
        "30-40 years old",
        "two years of age",
        "at the age of 30 years",
        "aged 30 years",
        "after two days it was gone",
        "a week later",
        "2 months pregnant",
        "it comes several times a year",
        "every day",
        "the next day",
        "version 1.2.10 days",
        "x3 days",
        "daylight 5 yearly",
        "",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    assert first_duration(text) is None
    assert "onset: silent" in features(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("since childhood", "multiple years"),
        ("I have had it since I was a child", "multiple years"),
        ("since he was young", "multiple years"),
        ("since her birth", "multiple years"),
        ("a congenital mark", "multiple years"),
        ("for years", "multiple years"),
        ("for months", "months"),
        ("for weeks", "weeks"),
        ("it appeared recently", "weeks"),
        ("since yesterday", "days"),
        ("this morning", "hours"),
        ("it appeared suddenly", "hours"),
    ],
)
def test_vague_onsets(text: str, name: str) -> None:
    assert {n for n in features(text) if n.startswith(("since", "onset"))} == {f"since: {name}"}


@pytest.mark.parametrize(
    ("days", "bucket"),
    [(0, 0), (0.99, 0), (1, 1), (6.9, 1), (7, 2), (29, 2), (30, 3), (364, 3), (365, 4), (729, 4), (730, 5), (1e6, 5)],
)
def test_bucket_borders(days: float, bucket: int) -> None:
    assert bucket_of(days) == BUCKETS[bucket]


# --- sites and words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on my hand", {"upper limb"}),
        ("both palms and the wrists", {"upper limb"}),
        ("in the armpit", {"upper limb"}),
        ("behind the left ear", {"head"}),
        ("scalp and hairline", {"head"}),
        ("the nape of the neck", {"neck"}),
        ("calves, ankles", {"lower limb"}),
        ("lower extremities", {"lower limb"}),
        ("upper limbs", {"upper limb"}),
        ("limbs and extremities", {"whole body"}),
        ("on the abdomen", {"chest"}),
        ("lower back", {"back"}),
        ("under a fingernail", {"upper limb", "nails"}),
        ("all over the whole body", {"whole body"}),
        ("on the scrotum", {"genital"}),
        ("Hand, FOOT and Mouth", {"upper limb", "lower limb", "head"}),
        # parts of other words are no sites
        ("I could not handle it", set()),
        ("handsome; chinese; earlier; footnote", set()),
        ("backache and setback", set()),
        ("armor, harm, pharmacy", set()),
        ("toenailed, kneeling", set()),
        ("", set()),
    ],
)
def test_sites_and_their_borders(text: str, expected: set[str]) -> None:
    assert sites(text) == expected
    number = ("none", "one", "two or more")[min(len(expected), 2)]
    assert {n for n in features(text) if n.startswith("sites: ")} == {f"sites: {number}"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("small papules", "papule"),
        ("a swollen lump", "nodule"),
        ("thickened skin", "plaque"),
        ("flat stains", "macule"),
        ("shingles", "vesicle"),
        ("an open wound", "erosion"),
        ("verrucous", "wart"),
        ("a scab", "crust"),
        ("peeling", "scale"),
        ("oozing", "weeping"),
        ("hives", "rash"),
        ("shiny", "smooth"),
        ("uneven", "rough"),
        ("it burns", "pain"),
        ("bleeding", "bleeding"),
        ("it grew", "growth"),
        ("reddish", "red"),
        ("dark", "black"),
        ("hypopigmented", "white"),
        ("solitary", "single"),
        ("dozens", "multiple"),
        ("as a pinhead", "small"),
        ("0.5 cm", "nail sized"),
        ("as an egg", "large"),
        ("my son", "child"),
        ("a 70-year-old", "old"),
        ("ointment", "treated"),
        ("every summer", "recurrent"),
    ],
)
def test_words(text: str, name: str) -> None:
    assert f"word: {name}" in features(text)
    assert f"word: {name}" not in features("")


@pytest.mark.parametrize(("text", "name"), [("hundred", "red"), ("ship", "pain"), ("fluidity", "weeping")])
def test_words_have_borders(text: str, name: str) -> None:
    assert f"word: {name}" not in features(text)


# --- the vector


def test_names_are_unique_and_as_many_as_values() -> None:
    assert len(set(NAMES)) == len(NAMES) == len(rule_features("anything"))


@settings(deadline=None, derandomize=True)
@given(st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join))
@example("a" * 10_000)
@example("no " * 3000)
@example("1 " * 3000)
@example("n't" * 3000)
def test_values_are_float32_zeros_and_ones_for_any_text(text: str) -> None:
    values = rule_features(text)
    assert values.dtype == np.float32
    assert set(values.tolist()) <= {0.0, 1.0}
    on = features(text)
    assert len([n for n in on if n.startswith("itch: ")]) == 1
    assert len([n for n in on if n.startswith("sites: ")]) == 1
    assert len([n for n in on if n.startswith("onset: ")]) <= 1
    assert ("onset: silent" in on) == (not [n for n in on - {"onset: silent"} if n.startswith(("onset", "since"))])


@pytest.mark.parametrize("text", ["", "双手反复出现红斑，伴瘙痒，已有两年。", "<季节性皮炎>", "Enrojecimiento y picor"])
def test_what_is_not_english_is_silent(text: str) -> None:
    assert features(text) == {"sites: none", "itch: silent", "onset: silent"}


# --- the real training encounters


def answered() -> list[tuple[str, dict[str, int]]]:
    """(title and content, answers) of the 300 labelled encounters."""
    queries = {row["encounter_id"]: row for row in json.loads((DATA / "train.json").read_text())}
    answers = json.loads((DATA / "train_cvqa.json").read_text())
    texts = [queries[row["encounter_id"]] for row in answers]
    return [(f"{q.get('query_title_en')} {q.get('query_content_en')}", a) for q, a in zip(texts, answers, strict=True)]


@pytest.mark.realdata
@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/dermavqa-text is not here")
def test_itch_agrees_with_the_gold_answers() -> None:
    found = [(itch(text), row["CQID025-001"]) for text, row in answered()]
    assert len(found) == 300
    for said, index, least, agreement in (("yes", 0, 100, 0.95), ("no", 1, 30, 0.7), ("silent", 2, 150, 0.97)):
        gold = [answer for rule, answer in found if rule == said]
        assert len(gold) >= least
        assert np.mean([answer == index for answer in gold]) >= agreement


@pytest.mark.realdata
@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/dermavqa-text is not here")
def test_onsets_agree_with_the_gold_answers() -> None:
    found = [(first_duration(text), row["CQID015-001"]) for text, row in answered()]
    pairs = [(BUCKETS.index(bucket_of(days)), answer) for days, answer in found if days is not None]
    assert len(pairs) >= 170
    assert np.mean([bucket == answer for bucket, answer in pairs]) >= 0.80
