"""Prompts: the cleaned halves of `Question || Answer`, and how they share a text encoder's window."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from html import unescape
from html.parser import HTMLParser

from magic_cli.errors import ConfigError, problem
from magic_cli.records import CONTENT, TITLE, Case

LADDER = tuple(f"p{step}" for step in range(10))
"""Steps of the prompt ladder (data/texts/prompt_ladder.py); all but the first are made from gold answers."""

PROMPTS = ("qa", "query", "answer", "fixed", *LADDER)

FIXED = "skin lesion"

_BREAKING = """blockquote body br center dd div dl dt figcaption figure footer h1 h2 h3 h4 h5 h6 head header hr html img
    li main nav ol p pre section table tbody td tfoot th thead title tr ul"""

_INLINE = "a abbr b big code del em font i ins kbd label link mark meta q s small span strike strong sub sup tt u wbr"

_HIDDEN = frozenset({"script", "style"})

_BLOCKS = frozenset(_BREAKING.split())

_TAGS = _BLOCKS | _HIDDEN | frozenset(_INLINE.split())

_CANDIDATE = re.compile(
    r"""<!--(?:(?!<!--).)*?-->|<!doctype[^<>]*>|</?[a-z](?:[^<>"']|"[^"]*"|'[^']*')*>""", re.I | re.S
)

_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.I)


class _Tag(HTMLParser):
    """Parse one piece of text that looks like a tag with the stdlib parser."""

    def __init__(self, piece: str) -> None:
        super().__init__(convert_charrefs=False)
        self.name, self.closing, self.real = "", False, False
        self.feed(piece)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a start tag; a real one has a known name and no bare words: `<b and c>` is a comparison."""
        self.name, self.real = tag, tag in _TAGS and all(value is not None for _, value in attrs)

    def handle_endtag(self, tag: str) -> None:
        """Note an end tag; `<br/>` is a start tag and an end tag at once."""
        self.closing = not self.name
        self.name, self.real = tag, tag in _TAGS if self.closing else self.real


def strip_html(text: str) -> str:
    """Remove real HTML tags, comments, scripts and styles, and decode entities; all other text stays verbatim.

    Only the names of HTML elements count as tags, and only with well-formed attributes, so that `EO <0.7`,
    `<季节性皮炎>`, `2<x<5 cm` and `a<b and c>d` survive (examples/challenge-data.md, "Tags in texts").
    A tag that breaks the line (`<br>`, `<p>`) leaves a space, any other (`<b>`) leaves nothing.

    >>> strip_html("EO <b>high</b>,<br/>not <0.7 &amp; rising")
    'EO high, not <0.7 & rising'
    """
    if "<" not in text and "&" not in text:
        return text
    parts: list[str] = []
    position, hidden = 0, ""
    for match in _CANDIDATE.finditer(text):
        between = text[position : match.start()]
        position = match.end()
        piece = match.group()
        if piece.startswith("<!"):
            parts += ["" if hidden else between]
            continue
        tag = _Tag(piece)
        if hidden:
            hidden = "" if tag.closing and tag.name == hidden else hidden
            continue
        parts += [between, _replacement(tag, piece)]
        if tag.real and tag.name in _HIDDEN and not tag.closing:
            hidden = tag.name
    parts.append("" if hidden else text[position:])
    return _ENTITY.sub(lambda entity: unescape(entity.group()), "".join(parts))


def _replacement(tag: _Tag, piece: str) -> str:
    """Return what remains of a piece of text that looks like a tag."""
    if not tag.real:
        return piece
    return " " if tag.name in _BLOCKS else ""


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which JSON can hold and UTF-8 cannot, by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def fold(text: str) -> str:
    """Replace every run of white space (Unicode) by one space, and strip the ends."""
    return " ".join(text.split())


def name_key(name: str) -> str:
    """Return what two spellings of a class or concept have in common.

    >>> name_key("Basal_cell  carcinoma") == name_key("basal cell carcinoma")
    True
    """
    return fold(unicodedata.normalize("NFC", name).replace("_", " ")).casefold()


def clean(text: str) -> str:
    """Strip HTML tags, fold white space and replace lone surrogates by U+FFFD."""
    return fold(strip_html(replace_surrogates(text)))


def in_english(texts: Mapping[str, str]) -> str:
    """Return the English text as it is written, else that of the first other language; "" without any."""
    return texts.get("en") or next(filter(None, texts.values()), "")


def pick(texts: Mapping[str, str], lang: str) -> str:
    """Return the cleaned text in `lang`, else in the first other language that has a text; "" if none has."""
    ordered = [texts.get(lang, ""), *texts.values()]
    return next((cleaned for cleaned in map(clean, ordered) if cleaned), "")


def check_prompt(kind: str, responses: bool) -> None:
    """Raise ConfigError if the kind of prompt is unknown, or its only half is switched off."""
    if kind not in PROMPTS:
        raise ConfigError(problem("--prompt", kind, " or ".join(PROMPTS), "choose one of these"))
    if kind == "answer" and not responses:
        raise ConfigError(problem("--prompt", "answer with --no-responses", "a prompt with text", "use --prompt query"))


def prompt_halves(
    title: Mapping[str, str],
    content: Mapping[str, str],
    responses: Sequence[Mapping[str, str]],
    kind: str = "qa",
    lang: str = "en",
) -> tuple[str, str]:
    """Return the cleaned (question, answer) halves of an encounter's prompt; either may be "".

    Args:
        title: language to text; with `content`, the question half.
        content: language to text.
        responses: the clinicians' answers, language to text, in order; joined, the answer half. Pass () for
            --no-responses.
        kind: "qa" both halves, "query" and "answer" one of them, "fixed" the constant `FIXED` as question; neither for
            a step of the ladder, which is made once labels and answers are known.
        lang: preferred language; a text without it is taken in its first other language.

    Raises:
        ConfigError: an unknown kind.
    """
    check_prompt(kind, responses=True)
    if kind == "fixed" or kind in LADDER:
        return (FIXED if kind == "fixed" else ""), ""
    question = fold(f"{pick(title, lang)} {pick(content, lang)}") if kind != "answer" else ""
    answer = fold(" ".join(pick(response, lang) for response in responses)) if kind != "query" else ""
    return question, answer


def written_in(case: Case, lang: str) -> str:
    """Return what was written about a case in one language, cleaned; "" if nothing was.

    Halves that the prompt leaves out (--prompt, --no-responses) are left out too.
    """
    if case.question == FIXED:
        return FIXED
    halves = ((case.question, (case.text(TITLE), case.text(CONTENT))), (case.answer, case.responses))
    return fold(" ".join(clean(text.get(lang, "")) for half, texts in halves if half for text in texts))


def share_window(n_question: int, n_answer: int, budget: int) -> tuple[int, int]:
    """Return how many tokens of each half fit into `budget`, shared fairly.

    Each half is guaranteed half of the budget (the question gets the odd token), and what one half does not need goes
    to the other. So nothing that fits is cut, and neither half displaces the other.

    >>> share_window(10, 500, 75), share_window(500, 500, 75), share_window(20, 30, 75)
    ((10, 65), (38, 37), (20, 30))
    """
    budget = max(budget, 0)
    question = min(n_question, max(budget - budget // 2, budget - n_answer))
    return question, min(n_answer, budget - question)
