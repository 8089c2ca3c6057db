"""Subgroups by which scores can be compared: skin type, age band, sex, site and source stay with every case."""

from dataclasses import replace

from magic_cli.data.sources.cells import number
from magic_cli.data.sources.source import AGE, AGE_BAND, SOURCE
from magic_cli.records import Case

_BANDS = ((20, "0-19"), (40, "20-39"), (60, "40-59"), (80, "60-79"), (131, "80+"))  # below so many years


def age_band(age: str | None) -> str:
    """Return the band of an age in years, "" if it is missing, no number, or outside of 0 to 130.

    >>> age_band("39.9"), age_band("80"), age_band("-1"), age_band("unknown")
    ('20-39', '80+', '', '')
    """
    years = number(age)
    if years is None or years < 0:
        return ""
    return next((name for below, name in _BANDS if years < below), "")


def with_subgroups(case: Case, source: str) -> Case:
    """Return the case with the attributes `age_band`, from its age, and `source`, where its own data has none."""
    attributes = dict(case.attributes)
    band = age_band(attributes.get(AGE))
    if band:
        attributes.setdefault(AGE_BAND, band)
    attributes.setdefault(SOURCE, source)
    return replace(case, attributes=attributes)
