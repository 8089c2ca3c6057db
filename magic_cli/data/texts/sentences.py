"""Divide a text into sentences: at full stops that end one, not at those of abbreviations and decimals."""

import re

from magic_cli.data.prompts import fold, strip_html

_END = re.compile(r"[.;!?\n\r\u2028\u3002\uff1b\uff01\uff1f\uff0e]+")

_TAIL = ".;!?\u3002\uff1b\uff01\uff1f\uff0e \t\n\r\u2028\u3000"

_NUMBER = re.compile(r"[(\[]?(?:\d{1,2}|[a-zA-Z])[)\]]?")

_LAST_WORD = re.compile(r"[\w.]*$")

# after which a full stop ends no sentence
_ABBREVIATIONS = frozenset({"e.g", "i.e", "eg", "ie", "dr", "mr", "mrs", "ms", "prof", "st", "vs", "fig", "figs", "ca"})
_ABBREVIATIONS |= {"approx", "cf", "al", "viz", "resp", "incl", "esp", "no", "nos", "vol", "pp", "ed", "dept", "spp"}
_ABBREVIATIONS |= {"sp", "var", "q.d", "b.i.d", "t.i.d", "p.o", "i.v", "i.m", "a.m", "p.m", "u.s", "u.k", "ph.d", "m.d"}
_ABBREVIATIONS |= {"max", "min"}

# after which it ends one if the next word has a capital
_SHORTENED = frozenset(
    {"etc", "cm", "mm", "kg", "mg", "ml", "yr", "yrs", "mo", "wk", "hr", "inc", "hx", "dx", "rx", "tx"}
)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, without what ends them; empty and repeated ones are dropped.

    Sentences end with a full stop, a semicolon, a question or exclamation mark, or a line, in English and Chinese.

    >>> sentences("Plaque of 2.5 cm, e.g. on the knee. Scale; itch?")
    ['Plaque of 2.5 cm, e.g. on the knee', 'Scale', 'itch']
    """
    found: dict[str, str] = {}
    for piece in pieces(strip_html(text)):
        sentence = fold(piece.rstrip(_TAIL))
        if any(char.isalnum() for char in sentence):
            found.setdefault(sentence.casefold(), sentence)
    return list(found.values())


def pieces(text: str) -> list[str]:
    """Return the parts of a text that its sentences take, with what ends them; together they are the text."""
    parts, start = [], 0
    for match in _END.finditer(text):
        if _ends(text, start, match):
            parts.append(text[start : match.end()])
            start = match.end()
    return [*parts, text[start:]] if start < len(text) else parts


def _ends(text: str, start: int, match: "re.Match[str]") -> bool:
    """Return whether a mark ends the sentence that began at `start`."""
    if match.group() != ".":
        return True
    before, after = text[start : match.start()], text[match.end() : match.end() + 2]
    if after[:1].isalnum() or after[:1] in {"_", "-", "/"}:  # 2.5 cm, photo.jpg; "Scale.Plaque" is two sentences
        return before[-1:].islower() and after[:1].isupper() and len(_last_word(before)) > 2
    if after[:1] in {",", ")", "]"} or _NUMBER.fullmatch(before.strip()):  # "1. Scale": a number of a list
        return False
    word, follows = _last_word(before).casefold(), text[match.end() :].lstrip()[:1]
    if word in _ABBREVIATIONS:
        return not follows or (
            word in {"no", "nos", "al", "ed", "sp", "spp"} and not follows.isdigit() and follows.isupper()
        )
    if word in _SHORTENED or (len(word) == 1 and word.isalpha()):  # "S. aureus", "vitamin D. Scale"
        return not follows or not follows.islower()
    return True


def _last_word(text: str) -> str:
    match = _LAST_WORD.search(text[-40:])
    return match.group().strip(".") if match else ""
