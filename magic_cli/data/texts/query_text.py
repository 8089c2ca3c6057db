"""The query of a case: one or two sentences from its attributes by a template, in a fixed order.

What is absent is "no X", what is unknown is not said. The class, management, histology, notes and names of files are
never read, nor is a score that is derived from the class; a value that tells the class all the same is dropped
(data/texts/leak_guard.py). Example: "A male patient with a palpable lesion on the back. Dermoscopy: atypical pigment
network, no streaks."
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from magic_cli.data.prompts import clean
from magic_cli.data.sources.cells import flag, number, present
from magic_cli.data.sources.source import AGE, AGE_BAND, CONCEPTS, SEX, SITE, SKIN_TYPE
from magic_cli.errors import ConfigError, problem
from magic_cli.records import Case

_LONGEST = 200  # characters of a value

# columns that mean the same as a canonical attribute, in tables that no adapter knows
_COLUMNS = {
    AGE: (AGE, "age_approx"),
    SEX: (SEX, "gender"),
    SITE: (SITE, "anatom_site_general", "localization", "location", "body_location", "anatomic_site", "region"),
    SKIN_TYPE: (SKIN_TYPE, "fitzpatrick_skin_type", "fitzpatrick_scale", "fitzpatrick"),
}

# dermoscopic structures of Derm7pt, and of ISIC 2018 task 2
_DERMOSCOPY = {
    "pigment_network": "pigment network",
    "negative_network": "negative network",
    "streaks": "streaks",
    "pigmentation": "pigmentation",
    "regression_structures": "regression structures",
    "dots_and_globules": "dots and globules",
    "globules": "globules",
    "milia_like_cyst": "milia-like cysts",
    "milia_like_cysts": "milia-like cysts",
    "blue_whitish_veil": "blue-whitish veil",
    "vascular_structures": "vascular structures",
}

# what patients say: PAD-UFES-20, SCIN
_SYMPTOMS = {
    "itch": "itching",
    "grew": "growth",
    "hurt": "pain",
    "changed": "recent change",
    "bleed": "bleeding",
    "condition_symptoms_itching": "itching",
    "condition_symptoms_burning": "burning",
    "condition_symptoms_pain": "pain",
    "condition_symptoms_bleeding": "bleeding",
    "condition_symptoms_increasing_size": "increasing size",
    "condition_symptoms_darkening": "darkening",
    "condition_symptoms_bothersome_appearance": "bothersome appearance",
}

_TEXTURES = {
    "textures_raised_or_bumpy": "raised or bumpy",
    "textures_flat": "flat",
    "textures_rough_or_flaky": "rough or flaky",
    "textures_fluid_filled": "fluid-filled",
}

ELEVATION, SYMPTOMS, SCORE = "elevation", "symptoms", "seven_point_score"

NAMES = (AGE, SEX, SITE, SKIN_TYPE, ELEVATION, *_DERMOSCOPY, *_SYMPTOMS, SYMPTOMS, *_TEXTURES, CONCEPTS)

_ON_REQUEST = (SCORE,)  # derived from the other attributes

# no other columns are looked at
_READ = frozenset({*NAMES, *_ON_REQUEST, AGE_BAND, *(column for columns in _COLUMNS.values() for column in columns)})

_ABSENT = frozenset({"absent", "none", "no"})


class Part(NamedTuple):
    """A piece of a query: the attribute that it is from, the sentence that it belongs to, and its words."""

    name: str
    place: str
    words: str


def presence(value: str) -> bool | None:
    """Return whether a value says that a sign is there, in any spelling; None if it says something else.

    >>> presence("Present"), presence("1"), presence("none"), presence("irregular")
    (True, True, False, None)
    """
    word = value.strip().casefold()
    return True if word == "present" else False if word in _ABSENT else flag(word)


def told_attributes() -> frozenset[str]:
    """Return the names of the attributes, and of the columns, that a query may tell."""
    return _READ


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """Which attributes a query tells, by their names."""

    names: tuple[str, ...] = NAMES

    def __post_init__(self) -> None:
        """Refuse unknown names.

        Raises:
            ConfigError: a name is none of those that a query can tell.
        """
        unknown = [name for name in self.names if name not in NAMES + _ON_REQUEST]
        if unknown:
            expected = ", ".join(NAMES + _ON_REQUEST)
            raise ConfigError(problem("--query-attributes", ", ".join(unknown), expected, "choose some of these"))


def parts(case: Case, options: QueryOptions = QueryOptions()) -> list[Part]:
    """Return the pieces of a query, in their order."""
    values = _values(case.attributes)
    wanted = frozenset(options.names)
    made = [part for make in _MAKERS for part in make(values) if part.name in wanted]
    said = {part.words.removesuffix(" present") for part in made if part.name != CONCEPTS}
    return [part for part in made if part.name != CONCEPTS or part.words not in said]


def assemble(pieces: list[Part]) -> str:
    """Return the sentences that pieces make."""
    said: dict[str, list[str]] = {}
    for part in pieces:
        words = said.setdefault(part.place, [])
        if part.words not in words:
            words.append(part.words)
    first = _first_sentence({place: words[0] for place, words in said.items() if place in _FIRST})
    lists = (f"{place}: {', '.join(words)}." for place, words in said.items() if place not in _FIRST)
    return " ".join(filter(None, (first, *lists)))


_FIRST = ("age", "aged", "sex", "elevation", "site")


def sentence_of(part: Part) -> str:
    """Return which sentence a piece belongs to: "" for the first one, else the word that it begins with."""
    return "" if part.place in _FIRST else part.place


def _first_sentence(said: Mapping[str, str]) -> str:
    """Return "A 45-year-old male patient with a palpable lesion on the back."."""
    person = " ".join(filter(None, (said.get("age"), said.get("sex"))))
    patient = f"{person} patient".lstrip() if person or "aged" in said else ""
    patient = f"{patient} {said['aged']}" if "aged" in said else patient
    lesion = f"{said['elevation']} lesion" if "elevation" in said else ""
    if "site" in said:
        lesion = f"{lesion or 'lesion'} on the {said['site']}"
    words = f"{_a(patient)} with {_a(lesion)}" if patient and lesion else _a(patient or lesion)
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def _a(words: str) -> str:
    if not words:
        return ""
    article = "an" if re.match(r"[aeiou]|8|11\b|18\b", words) else "a"
    return f"{article} {words}"


def _values(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the values that are there, by the name of their column in lower case with underscores."""
    values: dict[str, str] = {}
    for name, value in attributes.items():
        column = _column(name)
        text = present(value) if column in _READ else None
        if text is not None:
            values.setdefault(column, clean(text)[:_LONGEST])
    return values


@lru_cache(1 << 12)
def _column(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().casefold()).removeprefix("attribute_")


def _of(values: Mapping[str, str], name: str) -> str:
    text = next((values[column] for column in _COLUMNS.get(name, (name,)) if column in values), "")
    return "" if text.casefold() in ("unk", "unknown", "other", "none_selected") else text.replace("_", " ")


def _person(values: Mapping[str, str]) -> Iterator[Part]:
    years = number(_of(values, AGE))
    if years is not None and 0 <= years <= 120:
        yield Part(AGE, "age", f"{int(years)}-year-old")
    elif AGE_BAND in values and re.fullmatch(r"\d{1,3}\s*(?:[-–]\s*\d{1,3}|\+)", values[AGE_BAND]):
        yield Part(AGE, "aged", f"aged {values[AGE_BAND]}")
    sex = _of(values, SEX).casefold()
    if sex in ("male", "female"):
        yield Part(SEX, "sex", sex)


def _lesion(values: Mapping[str, str]) -> Iterator[Part]:
    elevation = _of(values, ELEVATION).casefold()
    if elevation:
        is_raised = flag(elevation)
        yield Part(ELEVATION, "elevation", elevation if is_raised is None else "elevated" if is_raised else "flat")
    site = _of(values, SITE)
    if site:
        yield Part(SITE, "site", site.casefold().removeprefix("the "))


def _skin(values: Mapping[str, str]) -> Iterator[Part]:
    skin = number(_of(values, SKIN_TYPE).casefold().removeprefix("fst").strip())
    text = "" if skin is None else f"{skin:.0f}"
    if re.fullmatch("[1-6]{1,2}", text):
        yield Part(SKIN_TYPE, "Skin type", "-".join(text))


def _dermoscopy(values: Mapping[str, str]) -> Iterator[Part]:
    for column, words in _DERMOSCOPY.items():
        value = _of(values, column).casefold() if column in values else ""
        if value:
            said = _graded(value, words)
            yield from [Part(column, "Dermoscopy", said)] if said else []
    score = number(values.get(SCORE))
    if score is not None:
        yield Part(SCORE, "Seven-point score", f"{score:.0f}")


def _graded(value: str, words: str) -> str:
    """Return a structure with its value: "no streaks", "atypical pigment network"."""
    if presence(value) is False:
        return f"no {words}"
    if presence(value):
        return f"{words} present" if words == "blue-whitish veil" else words
    return "" if number(value) is not None else f"{value} {words}"


def _flags(table: Mapping[str, str], place: str) -> Callable[[Mapping[str, str]], Iterator[Part]]:
    def made(values: Mapping[str, str]) -> Iterator[Part]:
        for column, words in table.items():
            is_there = flag(values[column]) if column in values else None
            if is_there is not None:
                yield Part(column, place, words if is_there else f"no {words}")

    return made


def _free(values: Mapping[str, str]) -> Iterator[Part]:
    symptoms = _of(values, SYMPTOMS)
    if symptoms:
        yield Part(SYMPTOMS, "Symptoms", symptoms.rstrip("."))
    for concept in values.get(CONCEPTS, "").split(";"):
        if concept.strip():
            yield Part(CONCEPTS, "Visible", concept.strip().casefold())


_MAKERS = (
    *(_person, _lesion, _skin, _dermoscopy, _flags(_SYMPTOMS, "Symptoms")),
    *(_free, _flags(_TEXTURES, "Texture")),
)
