"""Conditions on the fields of cases: a small tree, read from text as SQL writes it, and evaluated on a case.

    diagnosis = 'melanoma' and age >= 40 and site in ('back', 'chest') and not missing(sex)

Values of fields are texts. A quoted value is compared as text, exactly; a number without quotation marks as a number,
so that `age = 40` is true for "40" and "40.0". A comparison with a missing value is false, and `not` of it true: there
is no third truth value as in SQL. Each kind of index compiles the same tree (`matches` is what all must agree with).
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from magic_cli.errors import UsageError, printable, problem, redact_key, shorten

_DEEPEST = 50  # parentheses in each other; no one writes more, and recursion must not end the process

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^']|'')*')
      | (?P<field>"(?:[^"]|"")*")
      | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<name>[^\W\d][\w-]*)
      | (?P<sign><=|>=|!=|<>|==|[=<>(),])
    )""",
    re.VERBOSE,
)

_WORDS = frozenset({"and", "or", "not", "in", "missing"})

_FORM = "as in: diagnosis = 'melanoma' and age >= 40 and site in ('back', 'chest') and not missing(sex)"


@dataclass(frozen=True, slots=True)
class Equals:
    """The field is this text."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class In:
    """The field is one of these texts, of which there is at least one."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The field is a number from `low` to `high`; each bound counts unless it is `above` or `below`."""

    field: str
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """The case has no such field, or an empty one."""

    field: str


@dataclass(frozen=True, slots=True)
class Not:
    """The condition is false."""

    part: "Where"


@dataclass(frozen=True, slots=True)
class And:
    """All of these, of which there is at least one, are true."""

    parts: "tuple[Where, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of these is true."""

    parts: "tuple[Where, ...]"


Where = Equals | In | Range | Missing | Not | And | Or


def number_of(text: str) -> float | None:
    """Return the number that a value is, None for other text, and for "nan" and "inf".

    >>> number_of("40"), number_of(" 1e2 "), number_of("40 years"), number_of("nan")
    (40.0, 100.0, None, None)
    """
    stripped = text.strip()
    value = float(stripped) if _NUMBER.fullmatch(stripped) else math.nan
    return value if math.isfinite(value) else None


def matches(where: Where, fields: Mapping[str, str]) -> bool:
    """Return whether the fields of a case fulfil a condition; a field that is absent or empty is missing."""
    match where:
        case And(parts):
            return all(matches(part, fields) for part in parts)
        case Or(parts):
            return any(matches(part, fields) for part in parts)
        case Not(part):
            return not matches(part, fields)
        case Missing(field):
            return not fields.get(field)
        case Equals(field, value):
            return bool(value) and fields.get(field) == value
        case In(field, values):
            text = fields.get(field)
            return bool(text) and text in values
        case Range(field):
            number = number_of(fields.get(field, ""))
            return number is not None and _is_between(number, where)


def _is_between(number: float, bounds: Range) -> bool:
    low = number > bounds.low if bounds.above else number >= bounds.low
    return low and (number < bounds.high if bounds.below else number <= bounds.high)


def fields_of(where: Where) -> Iterator[str]:
    """Yield the names of the fields that a condition asks for, with repetitions."""
    match where:
        case And(parts) | Or(parts):
            for part in parts:
                yield from fields_of(part)
        case Not(part):
            yield from fields_of(part)
        case _:
            yield where.field


def parse_where(text: str) -> Where:
    """Return the condition that a text states.

    Known are =, !=, <, <=, >, >=, in (...), missing(FIELD), and, or, not, and parentheses; words in any case.
    Texts are in single quotation marks, doubled within; names of fields with blanks are in double ones.

    Raises:
        UsageError: the text is no condition; the message names the position.
    """
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over the tokens of a condition: `or` binds least, then `and`, then `not`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.next = 0
        self.depth = 0

    def whole(self) -> Where:
        where = self.alternatives()
        if self.next < len(self.tokens):
            self.fail("`and`, `or` or the end")
        return where

    def alternatives(self) -> Where:
        parts = [self.conjunction()]
        while self.take("or"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def conjunction(self) -> Where:
        parts = [self.factor()]
        while self.take("and"):
            parts.append(self.factor())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def factor(self) -> Where:
        self.depth += 1
        if self.depth > _DEEPEST:
            self.fail(f"at most {_DEEPEST} levels of parentheses and `not`")
        where: Where
        if self.take("not"):
            where = Not(self.factor())
        elif self.take("("):
            where = self.alternatives()
            self.expect(")")
        elif self.take("missing"):
            self.expect("(")
            where = Missing(self.field())
            self.expect(")")
        else:
            where = self.comparison()
        self.depth -= 1
        return where

    def comparison(self) -> Where:
        field = self.field()
        if self.take("not"):
            self.expect("in")
            return Not(self.members(field))
        if self.take("in"):
            return self.members(field)
        sign = next((sign for sign in ("=", "==", "!=", "<>", "<=", ">=", "<", ">") if self.take(sign)), None)
        if sign is None:
            self.fail("=, !=, <, <=, >, >= or `in` after the field")
        if sign in ("=", "=="):
            return self.equal(field)
        if sign in ("!=", "<>"):
            return Not(self.equal(field))
        value = self.number(sign)
        if sign in ("<", "<="):
            return Range(field, high=value, below=sign == "<")
        return Range(field, low=value, above=sign == ">")

    def equal(self, field: str) -> Where:
        kind, value, _ = self.peek()
        if kind == "text" and value:
            self.next += 1
            return Equals(field, value)
        number = number_of(value) if kind == "number" else None
        if number is None:
            self.fail("'text' in single quotation marks, or a number; missing(FIELD) asks for empty ones")
        self.next += 1
        return Range(field, number, number)

    def members(self, field: str) -> Where:
        self.expect("(")
        parts = [self.equal(field)]
        while self.take(","):
            parts.append(self.equal(field))
        self.expect(")")
        texts = tuple(part.value for part in parts if isinstance(part, Equals))
        numbers = [part for part in parts if not isinstance(part, Equals)]
        joined: tuple[Where, ...] = (*((In(field, texts),) if texts else ()), *numbers)
        return joined[0] if len(joined) == 1 else Or(joined)

    def field(self) -> str:
        kind, value, _ = self.peek()
        if kind not in ("name", "field") or not value or (kind == "name" and value.lower() in _WORDS):
            self.fail("the name of a field; names with blanks in double quotation marks")
        self.next += 1
        return value

    def number(self, sign: str) -> float:
        kind, text, _ = self.peek()
        value = number_of(text) if kind in ("number", "text") else None
        if value is None:
            self.fail(f"a number after {sign}")
        self.next += 1
        return value

    def peek(self) -> tuple[str, str, int]:
        return self.tokens[self.next] if self.next < len(self.tokens) else ("end", "", len(self.text))

    def take(self, word: str) -> bool:
        kind, value, _ = self.peek()
        is_next = kind in ("name", "sign") and value.lower() == word
        self.next += is_next
        return is_next

    def expect(self, word: str) -> None:
        if not self.take(word):
            self.fail(f"`{word}`")

    def fail(self, expected: str) -> NoReturn:
        kind, _, start = self.peek()
        got = "the end" if kind == "end" else f"{printable(self.text[start : start + 20])!r}"
        raise UsageError(problem(f"--where, character {start + 1}", got, expected, _FORM))


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield kind, value without its quotation marks, and position of each token."""
    end = len(text.rstrip())
    start = 0
    while start < end:
        token = _TOKEN.match(text, start, end)
        if token is None or token.lastgroup is None:
            at = start + len(text[start:]) - len(text[start:].lstrip())
            got = f"{printable(text[at : at + 20])!r}"
            expected = "texts in single quotation marks, names, numbers, comparisons"
            raise UsageError(problem(f"--where, character {at + 1}", got, expected, _FORM))
        kind, value = token.lastgroup, token[token.lastgroup]
        if kind in ("text", "field"):
            value = value[1:-1].replace(value[0] * 2, value[0])
        yield kind, value, token.start(kind)
        start = token.end()


def check_fields(where: Where, known: tuple[str, ...], place: object) -> None:
    """Refuse a condition on a field that an index does not keep, which would be missing in every case.

    Raises:
        UsageError: with the fields that there are.
    """
    unknown = sorted(set(fields_of(where)) - set(known))
    if unknown:
        got = f"the field {redact_key(unknown[0], words=True)}"
        raise UsageError(
            problem("--where", got, f"one of {shorten(sorted(known), 20) or 'none'}", f"{place} has these")
        )
