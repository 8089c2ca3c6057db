"""Attributes of cases compared: by name, as their queries tell them."""

import numpy as np
import pytest

from magic_cli.data.retrieval.attributes import agreement, agreement_table, attributes, compare
from magic_cli.records import Case

FIRST = {"age": "45-year-old", "sex": "male", "site": "back", "concepts": "scale; ulcer"}

SECOND = {"age": "50-year-old", "sex": "female", "streaks": "no streaks", "concepts": "ulcer"}


def test_what_a_query_tells_and_nothing_else() -> None:
    told = {"age": "45", "sex": "male", "diagnosis": "melanoma", "management": "excision", "streaks": "absent"}
    case = Case("c", "train", ("i",), attributes={**told, "concepts": "ulcer;scale"}, label="melanoma")
    assert attributes(case) == {
        "age": "45-year-old",
        "sex": "male",
        "streaks": "no streaks",
        "concepts": "scale; ulcer",
    }


def test_match_differs_and_missing_in_order() -> None:
    assert [(row.name, row.verdict) for row in compare(FIRST, SECOND)] == [
        ("age", "match"),
        ("sex", "differs"),
        ("site", "missing"),
        ("concepts", "match"),
        ("streaks", "missing"),
    ]


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (FIRST, SECOND, (1 + 0 + 0.5) / 3),
        (FIRST, FIRST, 1.0),
        (FIRST, {}, None),
        ({"sex": "male"}, {"site": "back"}, None),
        ({"age": "45-year-old"}, {"age": "51-year-old"}, 0.0),
        ({"age": "aged 40-59"}, {"age": "aged 40-59"}, 1.0),
    ],
)
def test_agreement(first: dict[str, str], second: dict[str, str], wanted: float | None) -> None:
    assert agreement(first, second) == (None if wanted is None else pytest.approx(wanted))
    assert agreement(second, first) == agreement(first, second)


def test_the_table_is_the_agreement_of_every_pair() -> None:
    cases = [FIRST, SECOND, {}, {"sex": "male"}, {"concepts": "scale", "age": "61-year-old"}]
    table = agreement_table(cases, cases[:4])
    wanted = [[np.nan if (v := agreement(a, b)) is None else v for b in cases[:4]] for a in cases]
    np.testing.assert_allclose(table.rows(slice(None)), wanted, rtol=1e-6)
    np.testing.assert_allclose(table.rows([3, 1]), [wanted[3], wanted[1]], rtol=1e-6)
    assert np.isnan(agreement_table([{}], cases).rows(slice(None))).all()
