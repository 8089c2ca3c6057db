"""Queries from attributes: order, "no X", what is unknown is not said, what tells the class is never read."""

import pytest

from magic_cli.data.sources.source import AGE, AGE_BAND, CONCEPTS, SEX, SITE, SKIN_TYPE
from magic_cli.data.texts.query_text import QueryOptions, assemble, parts
from magic_cli.errors import ConfigError
from magic_cli.records import Case

DERM7PT = {
    "diagnosis": "melanoma", "management": "excision", "notes": "melanoma?", "seven_point_score": "5",
    "pigment_network": "atypical", "streaks": "absent", "pigmentation": "diffuse irregular",
    "regression_structures": "blue areas", "dots_and_globules": "irregular", "blue_whitish_veil": "present",
    "vascular_structures": "absent", "elevation": "palpable", "location": "back", SEX: "male", SITE: "back",
    "derm": "NEL/Nel026.jpg", "case_id": "001",
}  # fmt: skip


def of(attributes: dict[str, str], *names: str) -> str:
    options = QueryOptions(names) if names else QueryOptions()
    return assemble(parts(Case("c", "train", ("i",), attributes=attributes), options))


def test_derm7pt() -> None:
    assert of(DERM7PT) == (
        "A male patient with a palpable lesion on the back. Dermoscopy: atypical pigment network, no streaks,"
        " diffuse irregular pigmentation, blue areas regression structures, irregular dots and globules,"
        " blue-whitish veil present, no vascular structures."
    )
    assert of({**DERM7PT, "blue_whitish_veil": "absent"}).count("no blue-whitish veil") == 1


@pytest.mark.parametrize(
    ("attributes", "query"),
    [
        ({}, ""),
        ({AGE: "nan", SEX: "unknown", SITE: "", "itch": "UNK", CONCEPTS: ""}, ""),
        ({AGE: "45.0", SEX: "female"}, "A 45-year-old female patient."),
        ({AGE: "80"}, "An 80-year-old patient."),
        ({AGE: "11", SITE: "Lower Extremity"}, "An 11-year-old patient with a lesion on the lower extremity."),
        ({AGE_BAND: "40-59", SEX: "male"}, "A male patient aged 40-59."),
        ({AGE: "40", AGE_BAND: "40-59"}, "A 40-year-old patient."),
        ({AGE: "-1", SKIN_TYPE: "-1"}, ""),
        ({SKIN_TYPE: "12", SITE: "nape_of_neck"}, "A lesion on the nape of neck. Skin type: 1-2."),
        ({"elevation": "True", "itch": "False", "bleed": "TRUE", "grew": "UNK"},
         "An elevated lesion. Symptoms: no itching, bleeding."),
        ({"globules": "1", "milia_like_cyst": "0", "streaks": "0.0", "negative_network": "-1"},
         "Dermoscopy: no streaks, globules, no milia-like cysts."),
        ({"pigment_network": "1", CONCEPTS: "pigment network; Plaque"},
         "Dermoscopy: pigment network. Visible: plaque."),
        ({"blue_whitish_veil": "present", CONCEPTS: "blue-whitish veil"}, "Dermoscopy: blue-whitish veil present."),
        ({"symptoms": "burning at night."}, "Symptoms: burning at night."),
        ({"textures_flat": "", "condition_symptoms_itching": "YES"}, "Symptoms: itching."),
        ({"biopsed": "True", "diagnostic": "BCC", "cancer_history": "True", "dx_type": "histo"}, ""),
    ],
)  # fmt: skip
def test_queries(attributes: dict[str, str], query: str) -> None:
    assert of(attributes) == query


def test_attributes_are_chosen_by_name() -> None:
    assert of(DERM7PT, "streaks", SEX) == "A male patient. Dermoscopy: no streaks."
    assert of(DERM7PT, "seven_point_score") == "Seven-point score: 5."
    with pytest.raises(ConfigError, match="diagnosis"):
        of(DERM7PT, "diagnosis")
