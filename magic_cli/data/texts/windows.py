"""Divide a text that is too long for an encoder into parts that fit, at the ends of sentences or words."""

import re
from collections.abc import Callable, Sequence

from magic_cli.data.texts.sentences import pieces

Tokenize = Callable[[str], list[int]]

# coarse to fine: sentences, words, characters; the units of each, joined, are the text
_UNITS: tuple[Callable[[str], list[str]], ...] = (pieces, re.compile(r"\s*\S+\s*").findall, list)


def windows(text: str, tokenize: Tokenize, room: int) -> list[list[int]]:
    """Return the token ids of the parts of a text, in order, each of 1 to `room` tokens; nothing is left out.

    Parts hold as many sentences as fit. A sentence that is too long is divided between words, a word between
    characters. A text that fits is one part, also if it is empty.

    >>> windows("Itchy. Red rash. Dry", lambda text: [len(word) for word in text.split()], 2)
    [[6], [3, 5], [3]]
    """
    return [part for part in _parts(text, tokenize, room, 0) if part] or [[]]


def _parts(text: str, tokenize: Tokenize, room: int, level: int) -> list[list[int]]:
    ids = tokenize(text)
    if len(ids) <= room:
        return [ids]
    if level == len(_UNITS):
        return [ids[start : start + room] for start in range(0, len(ids), room)]
    packed = _packed(_UNITS[level](text), tokenize, room)
    return [part for group in packed for part in _parts(group, tokenize, room, level + 1)]


def _packed(units: Sequence[str], tokenize: Tokenize, room: int) -> list[str]:
    """Join units, in order, to texts of at most `room` tokens; a unit that has more is a text of its own."""
    texts, used = [""], 0
    for unit in units:
        size = len(tokenize(unit))
        if texts[-1] and used + size > room:
            texts.append("")
            used = 0
        texts[-1] += unit
        used += size
    return texts
