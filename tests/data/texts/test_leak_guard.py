"""The leak guard: planted leaks in every field, in every spelling, never stand in a query; other words stay.

The property test does not ask the guard itself: it looks for what it planted with its own, slower rules.
"""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magic_cli.data.sources.source import AGE, CONCEPTS, LABEL_PATH, LESION, PATIENT, SEX, SITE
from magic_cli.data.texts.leak_guard import LeakCounts, LeakGuard
from magic_cli.data.texts.lexicon import CONCEPT, lexicon
from magic_cli.data.texts.query_text import NAMES, QueryOptions
from magic_cli.records import Case

LABELS = (
    "zorbitis", "Florb-Gnax disease (type 2)", "BCC", "nv", "seborrheic_keratosis", "telangiectases", "Quim/Trell",
    "melanoma (less than 0.76 mm)", "Nonsense eruption, NOS", "hand, foot and mouth disease", "1", "other", "银屑病",
)  # fmt: skip

GUARD = LeakGuard((*LABELS, "non-neoplastic > wobbly > zorbitis"))

# what must not be read, with the words by which it is found again
LEAKS = {
    "zorbitis": "zorbitis", "zorbitides": "", "wobbly": "wobbly", "Florb-Gnax disease": "florb gnax disease",
    "NV": "nv", "Quim/Trell": "quim trell", "BCC": "bcc",
    "basal cell carcinoma": "basal cell carcinoma", "rodent ulcer": "rodent ulcer", "mole": "mole",
    "melanocytic nevus": "nevus", "nevi": "nevi", "seborrheic keratosis": "seborrheic keratosis",
    "senile wart": "wart", "telangiectasia": "telangiectasia", "quim": "quim", "melanoma": "melanoma",
    "nonsense eruption": "nonsense eruption", "psoriasis": "psoriasis", "tinea pedis": "tinea",
    "excision": "excision", "biopsied": "biopsied", "clinical follow up": "follow up", "cryotherapy": "cryotherapy",
    "histology": "histology", "histopathological": "histopathological", "confocal": "confocal",
    "malignant": "malignant", "ISIC_0012345.jpg": "isic 0012345", "NEL/Nel026.jpg": "nel 026",
    "PAT_1516_1765_530.png": "pat 1516", "d41d8cd98f00b204e9800998ecf8427e": "d41d8cd98f00b204e9800998ecf8427e",
    "crazymanagement": "crazymanagement", "caseid77": "caseid77", "patient-9931": "9931",
}  # fmt: skip

INNOCENT = ("scarf", "zorbitistic", "melanomatous", "acneic", "wartlike", "premolear", "back", "left ear", "42 mm")

TELLING = ("diagnosis", "management", "histology", "notes", "image_id", "disease_label", "dx", "biopsed", "caption")

FIELDS = (*NAMES, "location", "region", "anatom_site_general", *TELLING)


def plainly(text: str) -> str:
    """Return the words of a text, joined by blanks, as the test looks for them."""
    kept = "".join(
        char
        for char in unicodedata.normalize("NFKC", text)
        if unicodedata.category(char) not in ("Cf", "Cc") or char == "\n"
    )
    words = re.findall(r"[^\W_]+", kept.casefold())
    return f" {' '.join(words)} "


def full_width(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


DISGUISES = (
    str,
    str.upper,
    str.title,
    lambda text: text.replace(" ", "-"),
    lambda text: text.replace(" ", "_"),
    lambda text: text.replace(" ", "\u00a0"),
    lambda text: text.replace(" ", "\n "),
    lambda text: "\u200b".join((text[: len(text) // 2], text[len(text) // 2 :])),
    lambda text: "\u00ad".join((text[:2], text[2:])),
    lambda text: "\x00".join((text[:2], text[2:])),
    lambda text: "\u2060".join(text),
    full_width,
    lambda text: f"({text})",
    lambda text: f"a {text}, probably",
    lambda text: f"no {text}.",
)

values = st.builds(
    lambda before, leak, disguise, after: f"{before} {disguise(leak)} {after}".strip(),
    st.sampled_from(("", "the", "upper", "red and")),
    st.sampled_from((*LEAKS, *INNOCENT)),
    st.sampled_from(DISGUISES),
    st.sampled_from(("", "region", "2 cm")),
)


@settings(max_examples=150, deadline=None)
@given(
    attributes=st.dictionaries(st.sampled_from(FIELDS), values, max_size=12),
    label=st.sampled_from(LABELS),
    caption=st.lists(values, max_size=4),
)
def test_no_planted_leak_stands_in_a_query(attributes: dict[str, str], label: str, caption: list[str]) -> None:
    case = Case(
        "caseid77",
        "train",
        ("Nel026", "ISIC_0012345"),
        label=label,
        attributes={**attributes, "management": "crazymanagement", PATIENT: "patient-9931", LESION: "12"},
        group_id="patient-9931",
    )
    counts = LeakCounts()
    query = GUARD.query(case, QueryOptions(), counts)
    said = GUARD.caption(case, ". ".join(caption), counts)
    for text in (plainly(query), plainly(said)):
        for leak, found in LEAKS.items():
            assert not found or f" {found} " not in text, (leak, text)
            assert f" {found}s " not in text


@pytest.mark.parametrize("text", [leak for leak, found in LEAKS.items() if found])
def test_every_leak_is_found_in_every_disguise(text: str) -> None:
    case = Case("caseid77", "train", ("Nel026",), attributes={"management": "crazymanagement", PATIENT: "patient-9931"})
    assert [disguise(text) for disguise in DISGUISES if not GUARD.leak(f"On the {disguise(text)} region", case)] == []


@pytest.mark.parametrize(
    "text", [*INNOCENT, "red plaque with scale on the scalp", "A 45-year-old male patient.", "1", "other leg"]
)
def test_other_words_stay(text: str) -> None:
    assert GUARD.leak(text, Case("1", "train", ("45",), label="1")) == ("diagnosis" if "other" in text else "")


def test_every_synonym_of_every_disease_is_a_leak_and_no_concept_is() -> None:
    guard = LeakGuard()
    open_ones = [s for term, synonyms in lexicon().synonyms.items() for s in synonyms
                 if term.kind != CONCEPT and not guard.leak(f"seen on {s} twice")]  # fmt: skip
    assert open_ones == []
    blocked = [s for term, synonyms in lexicon().synonyms.items() for s in synonyms
               if term.kind == CONCEPT and guard.leak(f"seen {s} there")]  # fmt: skip
    assert blocked == []


def test_a_concept_that_is_a_class_is_a_leak_with_its_synonyms() -> None:
    assert not LeakGuard().leak("telangiectasia and spider veins")
    assert LeakGuard(["Telangiectases"]).leak("spider veins")
    assert LeakGuard(["milia"]).leak("milia-like cysts")
    assert not LeakGuard(["nodular melanoma"]).leak("a nodular lesion")


def test_a_part_of_a_comma_list_is_no_class_of_its_own() -> None:
    """ "hand, foot and mouth disease" must not take the hand out of queries."""
    assert not GUARD.leak("a lesion on the hand")
    assert GUARD.leak("hand foot and mouth disease")


def test_what_is_dropped_is_counted() -> None:
    counts = LeakCounts()
    case = Case("c", "train", (), attributes={AGE: "40", SEX: "male", SITE: "melanoma site", CONCEPTS: "plaque; nevus"})
    assert GUARD.query(case, QueryOptions(), counts) == "A 40-year-old male patient. Visible: plaque."
    assert (counts.dropped, counts.touched) == ({SITE: 1, CONCEPTS: 1}, 1)


def test_words_of_the_template_that_are_a_class_are_dropped() -> None:
    counts = LeakCounts()
    case = Case("c", "train", (), attributes={AGE: "40", SEX: "male", "streaks": "absent"})
    assert LeakGuard(["male"]).query(case, QueryOptions(), counts) == "A 40-year-old patient. Dermoscopy: no streaks."
    assert LeakGuard(["patient"]).query(case, QueryOptions(), counts) == "Dermoscopy: no streaks."


def test_captions_are_cut_at_the_sentence_that_tells() -> None:
    counts = LeakCounts()
    case = Case("c1", "train", ())
    text = "Red plaques of 2.5 cm. Scale is seen; it suggests psoriasis. Steroids help."
    assert GUARD.caption(case, text, counts) == "Red plaques of 2.5 cm. Scale is seen;"
    assert GUARD.caption(case, "Psoriasis. Red plaques.", counts) == ""
    assert GUARD.caption(case, "Red plaques.\nScale", counts) == "Red plaques. Scale"
    assert (counts.cut, counts.nothing_left) == (2, ["c1"])
    assert GUARD.caption(case, "A long basal\ncell\ncarcinoma", counts) == "A long basal cell"


def test_columns_about_the_diagnosis_of_the_case_itself_are_leaks() -> None:
    case = Case("c", "train", (), attributes={"weighted_condition_label": "{'Blorp': 0.5}", LABEL_PATH: "a > snarfs"})
    assert LeakGuard().leak("blorps", case) == LeakGuard().leak("a snarf", case) == "diagnosis"
    assert not LeakGuard().leak("blorps")


@pytest.mark.parametrize(
    "label",
    [
        *("01_Zorboma", "1. Zorboma", "L98.4 Zorboma", "Grade 3 zorboma", "class_zorboma", "Zorboma - chronic"),
        *(
            "Zorboma, chronic",
            "chronic type: zorboma",
            "Zorboma and frulitis",
            "Frulitis & Zorboma",
            "frulitis vs zorboma",
        ),
        *(
            "FrulitisZorboma",
            "['frulitis', 'Zorboma']",
            "frulitis\\zorboma",
            "Frulitis + zorboma (ZBM)",
            "zorboma (ZBM)",
        ),
    ],
)
def test_a_class_is_found_whatever_stands_beside_it_in_its_name(label: str) -> None:
    case = Case("c", "train", (), label=label)
    for guard, own in ((LeakGuard([label]), None), (LeakGuard(), case)):
        assert guard.leak("seen: zorboma", own) == "diagnosis"
        assert guard.leak("a lesion of type 3, grade 1, and 2 cm on the hand", own) == ""
    if "frulitis" in label.casefold():
        assert LeakGuard([label]).leak("frulitis of the hand")
    if "ZBM" in label:
        assert LeakGuard([label]).leak("ZBM of the hand")


@pytest.mark.parametrize(
    "text",
    [
        *("B.C.C.", "b c c", "m.e.l.a.n.o.m.a", "\u043c\u0435lanoma", "\u039celan\u03bfma"),
        *("carc\u0131noma", "\u9280\u5c51\u75c5", "\u76ae\u819a\u764c", "\u9ed1 \u8272 \u7d20 \u7624"),
        *("Schuppenflechte", "Basaliom", "Basalzellkarzinome", "Nävus", "Hautkrebs", "bösartiger", "Fußpilz"),
        *("eccema", "lunares", "carcinoma basocelular", "benigno", "sarna", "mélanome", "verrues", "biopsia"),
        *("C43.9", "psoriatic plaques", "pityriasis", "Kaposi", "basal cell ca"),
    ],
)
def test_other_scripts_and_languages_hide_nothing(text: str) -> None:
    assert LeakGuard().leak(f"On the arm: {text}, red")
