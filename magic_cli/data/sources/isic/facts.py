"""What the tables of ISIC datasets say about an image beside its class: their own columns, and the canonical names."""

from collections.abc import Iterable, Mapping

from magic_cli.data.sources.cells import number
from magic_cli.data.sources.csv_rows import Row
from magic_cli.data.sources.source import AGE, LESION, LONGEST_ATTRIBUTE, PATIENT, SEX, SITE, SKIN_TYPE

_AGES = ("age_approximate", "age_approx", "age")

_SITES = ("anatom_site_general", "anatom_site_general_challenge", "localization", "site")

_NARROWER_SITES = tuple(f"anatom_site_{level}" for level in (5, 4, 3, 2, 1))

_ROMAN = {"I": "1", "II": "2", "III": "3", "IV": "4", "V": "5", "VI": "6"}


def stated(row: Row, column: str) -> str | None:
    """Return a cell; None if it is missing, "unknown" included, as ISIC's tables write it."""
    value = row.get(column)
    return None if value is None or value.casefold() == "unknown" else value[:LONGEST_ATTRIBUTE]


def facts(row: Row, columns: Iterable[str]) -> dict[str, str]:
    """Return the attributes of a row: the source's own columns, and the canonical names of what they mean."""
    return with_canonical({column: value for column in columns if (value := stated(row, column)) is not None})


def with_canonical(own: Mapping[str, str]) -> dict[str, str]:
    """Return ISIC's own columns and, beside them, the attributes that mean the same in every dataset.

    Ages such as "85+" lose their sign, skin types come as "III" or "3"; an age or sex that is none is left out.
    """
    named = _canonical(own)
    return {**{column: value for column, value in own.items() if column not in (AGE, SEX) or column in named}, **named}


def _canonical(own: Mapping[str, str]) -> dict[str, str]:
    age = _first(own, _AGES).removesuffix("+")
    skin = _first(own, ("fitzpatrick_skin_type",)).upper()
    skin = _ROMAN.get(skin, skin)
    sex = _first(own, ("sex",)).casefold()
    named = {
        AGE: age if number(age) is not None else "",
        SEX: sex if sex in ("male", "female") else "",
        SITE: _first(own, _SITES) or _first(own, _NARROWER_SITES),
        SKIN_TYPE: skin if skin in _ROMAN.values() else "",
        PATIENT: _first(own, ("patient_id", "patient")),
        LESION: _first(own, ("lesion_id",)),
    }
    return {name: value for name, value in named.items() if value}


def _first(own: Mapping[str, str], columns: Iterable[str]) -> str:
    return next((own[column] for column in columns if own.get(column)), "")
