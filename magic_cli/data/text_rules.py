"""Rule features of a patient's text in several languages: onset, itch with negation, body sites, keywords.

Results: examples/closed-questions.md, "Rule features", and examples/ablation.md. The words are in data/words.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "words"

LONGEST = 20_000  # characters of a text that are looked at: ten times the longest one of the challenge

TABLES = ("site", "part", "word", "since")

Patterns = Mapping[str, re.Pattern[str]]


@dataclass(frozen=True)
class Lexicon:
    """The compiled patterns of a language, for lower-case text.

    `site`, `part` and `word` map the name of a feature to its pattern, `since` an onset bucket to phrases that suggest
    it. `itch` matches a mention of itch, `no_itch` a negated one. `duration` has two groups: a number, in digits or a
    key of `numbers`, and a unit, a key of `days`, which gives its length in days.
    """

    site: Patterns
    part: Patterns
    word: Patterns
    since: Patterns
    itch: re.Pattern[str]
    no_itch: re.Pattern[str]
    duration: re.Pattern[str]
    numbers: Mapping[str, float]
    days: Mapping[str, float]


@cache
def lexicon(lang: str) -> Lexicon:
    """Read the word lists of a language (one of LANGUAGES in tasks/cvqa/config.py)."""
    read = tomllib.loads((FOLDER / f"{lang}.toml").read_text(encoding="utf-8"))
    border = r"\b" if read["whole_words"] else ""
    tables: dict[str, Any] = {
        table: {name: re.compile(f"{border}(?:{_joined(words)}){border}") for name, words in read[table].items()}
        for table in TABLES
    }
    duration = read["duration"]
    longest_first = sorted(duration["numbers"], key=lambda word: (-len(word), word))
    return Lexicon(
        **tables,
        itch=re.compile(_joined(read["itch"]["word"])),
        no_itch=re.compile(_joined(read["itch"]["negated"])),
        duration=re.compile(_joined(duration["pattern"]).replace("NUMBER", "|".join(longest_first))),
        numbers=duration["numbers"],
        days=duration["days"],
    )


def _joined(pattern: str) -> str:
    """Remove the line breaks of a pattern, which only serve readability."""
    return pattern.replace("\n", "")


BUCKETS = ("hours", "days", "weeks", "months", "over a year", "multiple years")

_WORDS = lexicon("en")  # names are the same in all languages

_ONSET = (*(f"onset: {name}" for name in BUCKETS), *(f"since: {name}" for name in _WORDS.since), "onset: silent")

_ITCH = ("itch: yes", "itch: no", "itch: silent")

_SITES = (
    *(f"site: {name}" for name in _WORDS.site),
    *(f"part: {name}" for name in _WORDS.part),
    *("sites: none", "sites: one", "sites: two or more", "sites: three or more"),
)

NAMES = (*_ONSET, *_ITCH, *_SITES, *(f"word: {name}" for name in _WORDS.word))

BLOCKS = (len(_ONSET), len(_ITCH), len(_SITES), len(_WORDS.word))

"""Sizes of the consecutive groups of features; each group has its own weight (models/heads.py)."""


def bucket_of(days: float) -> str:
    """Return the onset bucket of a duration in days (CQID015's options, in their order)."""
    for limit, name in ((1, "hours"), (7, "days"), (30, "weeks"), (365, "months"), (730, "over a year")):
        if days < limit:
            return name
    return "multiple years"


def first_duration(text: str, lang: str = "en") -> float | None:
    """Return the first duration in a text, in days; None if there is none.

    Ages ("3 years old") do not count, nor do durations that are not an onset: "after two days", "a week later",
    "times a year".

    >>> first_duration("A 30 years old man, itchy for two weeks")
    14.0
    >>> first_duration("男,30岁,瘙痒两周", "zh")
    14.0
    """
    words = lexicon(lang)
    match = words.duration.search(text.lower())
    if not match:
        return None
    amount, unit = match.groups()
    return float(words.numbers.get(amount) or amount.replace(",", ".")) * words.days[unit]


def itch(text: str, lang: str = "en") -> str:
    """Return "yes" (a mention of itch is not negated), "no" (all mentions are negated) or "silent" (no mention).

    >>> itch("It is red but does not really itch"), itch("不痛不痒", "zh"), itch("sin dolor ni picazón", "es")
    ('no', 'no', 'no')
    """
    words = lexicon(lang)
    affirmed, negated = words.no_itch.subn(" ", text.lower().replace("’", "'"))
    if words.itch.search(affirmed):
        return "yes"
    return "no" if negated else "silent"


def rule_features(texts: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
    """Return float32 (len(NAMES),) in [0, 1]: per feature, the share of the languages whose text has it.

    Args:
        texts: (language, text) versions of the same query; empty ones are ignored. If all are, an empty English text
            is used. Of each, the first 20,000 characters count.
    """
    features = [_of(lang, text) for lang, text in texts if text] or [_of("en", "")]
    return np.asarray(np.mean(features, axis=0), np.float32)


@lru_cache(maxsize=4096)  # of texts: training uses the same ones in every epoch
def _of(lang: str, text: str) -> NDArray[np.float32]:
    text = text[:LONGEST]
    words, low = lexicon(lang), text.lower()
    site, part, word, since = (
        [bool(pattern.search(low)) for pattern in table.values()]
        for table in (words.site, words.part, words.word, words.since)
    )
    days, itching = first_duration(text, lang), itch(text, lang)
    onset = [days is not None and bucket_of(days) == name for name in BUCKETS]
    counts = [sum(site) == 0, sum(site) == 1, sum(site) > 1, sum(site) > 2]
    itches = [itching == "yes", itching == "no", itching == "silent"]
    features = np.array([*onset, *since, not any(onset + since), *itches, *site, *part, *counts, *word], np.float32)
    features.flags.writeable = False
    return features
