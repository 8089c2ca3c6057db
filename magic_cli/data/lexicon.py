"""Word lists of patient texts, one TOML file a language in data/words: sites, words, itch, durations.

All languages have the same tables and names, in the same order: a feature means the same in each of them.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "words"
TABLES = ("site", "part", "word", "since")
Patterns = Mapping[str, re.Pattern[str]]


@dataclass(frozen=True)
class Lexicon:
    """The compiled patterns of a language, for lower-case text.

    `site`, `part` and `word` map a name to what says it, `since` an onset bucket to what hints at it. `itch` finds
    a mention, `no_itch` a negated one. `duration` has two groups: a number, in digits or a key of `numbers`, and a
    key of `days`, its unit's length.
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
    """Read the word lists of a language (tasks.cvqa_config.LANGUAGES)."""
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
    """Return a pattern whose lines are broken for reading only."""
    return pattern.replace("\n", "")
