"""Subgroups: bands of ages, and what a source says itself stays."""

import pytest

from magic_cli.data.preparation.subgroups import age_band, with_subgroups
from magic_cli.records import Case


@pytest.mark.parametrize(
    ("age", "band"),
    [("0", "0-19"), ("19.5", "0-19"), ("20", "20-39"), ("60.0", "60-79"), ("130", "80+")]
    + [(age, "") for age in (None, "", "nan", "inf", "-5", "131", "about 40")],
)
def test_age_band(age: str | None, band: str) -> None:
    assert age_band(age) == band


def test_what_the_source_says_stays() -> None:
    assert with_subgroups(Case("a", "train", (), attributes={"age": "45"}), "ham10000").attributes == {
        "age": "45",
        "age_band": "40-59",
        "source": "ham10000",
    }
    own = {"age": "45", "age_band": "AGE_40_TO_49", "source": "rosendahl"}
    assert with_subgroups(Case("a", "train", (), attributes=own), "ham10000").attributes == own
