"""The texts that a photo is paired with, and the class of its case."""

import pytest

from magic_cli.data.texts.pair_texts import (
    PairTexts,
    class_of,
    concepts_of,
    disease_path_of,
    pair_texts,
    with_pair_texts,
)
from magic_cli.records import Case


def case(**parts: object) -> Case:
    return Case("A", "train", ("A1",), **parts)  # type: ignore[arg-type]


def test_what_patients_and_clinicians_said_is_the_raw_text_and_its_sentences_are_the_subtexts() -> None:
    texts = {
        "title": {"en": "What is this?"},
        "content": {"en": "It itches. Is it melanoma?"},
        "response-1": {"en": "This is psoriasis."},
    }
    made = with_pair_texts(
        case(texts=texts, question="What is this? It itches. Is it melanoma?", answer="This is psoriasis.")
    )
    found = pair_texts(made)
    assert found.raw == "What is this? It itches. Is it melanoma? This is psoriasis."
    assert found.subtexts == ("What is this", "It itches", "Is it melanoma", "This is psoriasis")
    assert class_of(made) == "psoriasis"  # not the patient's guess
    assert found.all[:2] == (found.raw, found.disease)


def test_a_label_and_attributes_alone_give_disease_and_concept_texts_and_the_query_is_raw() -> None:
    attributes = {"concepts": "globules; streaks"}
    made = with_pair_texts(case(label="seborrheic_keratosis", attributes=attributes, question="A lesion on the back."))
    found = pair_texts(made)
    assert (found.raw, found.subtexts) == ("A lesion on the back.", ("A lesion on the back",))
    assert class_of(made) == disease_path_of(made)[-1] == "seborrheic keratosis"
    assert concepts_of(made) == ("globules", "streaks")


def test_texts_of_the_source_are_kept() -> None:
    texts = {
        "raw": {"en": "A scaly plaque."},
        "disease": {"en": "psoriasis"},
        "subtext-10": {"en": "b"},
        "subtext-2": {"en": "a"},
    }
    made = with_pair_texts(case(texts=texts, question="query"))
    assert pair_texts(made) == PairTexts("A scaly plaque.", "psoriasis", pair_texts(made).concept, ("a", "b"))
    assert class_of(made) == "psoriasis"


@pytest.mark.parametrize("said", ["", "   "])
def test_a_case_without_any_text_has_none(said: str) -> None:
    made = with_pair_texts(case(question=said))
    assert pair_texts(made) == PairTexts()
    assert (class_of(made), disease_path_of(made), concepts_of(made)) == ("", (), ())
