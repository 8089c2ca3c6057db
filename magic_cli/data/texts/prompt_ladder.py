"""The prompt ladder p0 to p9: texts about a case that tell more at each step, made from gold answers and attributes.

p0 is empty, p1 names the class; p2 adds the shape, p3 the colour, p4 the size, p5 the number, p6 the place, p7 the
extent, p8 the texture and visible concepts, p9 symptoms and onset. Each step contains the one before it word for word;
a step about which nothing is known adds nothing, and a case of which nothing is known has no words at any step. The
idea, the nesting and the order up to the place are from Poudel et al., Exploring Transfer Learning in Medical Image
Segmentation using Vision-Language Models (MIDL 2024), whose facts are computed from masks or asked of a model; the
facts here are those of the data, and the wording is our own.

From p1 on a step tells what annotators and clinicians found, so a score with it is an upper bound of what a text can
give. Tasks that predict the class or the answers, or search by the text, refuse it.
"""

from collections.abc import Callable
from dataclasses import replace

from magic_cli.data.prepared import Prepared
from magic_cli.data.prompts import LADDER, fold
from magic_cli.data.questions import QuestionSchema, plain
from magic_cli.data.sources.source import CONCEPTS, SITE
from magic_cli.data.texts.captions import with_knowledge
from magic_cli.data.texts.pair_texts import class_of
from magic_cli.data.texts.query_text import ELEVATION, Part, parts
from magic_cli.errors import DataError, problem
from magic_cli.records import Case

ROLE = "prompt-"  # of a case's texts, followed by the step, where a training draws the step

_NOUN = "skin lesion"  # where the class is not known, but something else is

# options of the challenge that do not read well as they are; "" says nothing
_WORDS = {
    "CQID012": {"size of thumb nail": "thumbnail-sized", "size of palm": "palm-sized", "larger area": "large"},
    "CQID034": {"normal skin color": "skin-coloured", "combination": "multicoloured"},
    "CQID011": {"other": ""},
    "CQID010": {"single spot": "in a single spot", "limited area": "in a limited area"},
    "CQID025": {"yes": "itching", "no": "not itching"},
}

_COLUMNS = {"CQID034": ("colour", "color"), "CQID012": ("size",), "CQID035": ("number",), "CQID036": ("texture",)}


def prompted(case: Case, step: str, questions: QuestionSchema) -> Case:
    """Return a case whose prompt is a step of the ladder, one of LADDER, and nothing else."""
    return replace(case, question=ladder(case, questions)[LADDER.index(step)], answer="")


def with_ladder(case: Case, questions: QuestionSchema) -> Case:
    """Return a case with all steps beside its own prompt, as texts of the roles "prompt-p0" to "prompt-p9"."""
    steps = {f"{ROLE}{step}": {"en": text} for step, text in zip(LADDER, ladder(case, questions), strict=True)}
    return replace(case, texts={**case.texts, **steps})


def is_step(role: str) -> bool:
    """Return whether a text of this role is a step of the ladder."""
    return role.startswith(ROLE)


def ladder(case: Case, questions: QuestionSchema) -> tuple[str, ...]:
    """Return the ten texts p0 to p9 of a case, each of which contains the one before it; all "" if nothing is known.

    Args:
        case: its label, its gold answers, its attributes and what clinicians answered are read, in any split.
        questions: the closed questions that its answers are about.
    """
    told = parts(case)
    of = _answers(case, questions)
    before = (of("CQID020") or _said(told, ELEVATION), of("CQID034"), of("CQID012"), of("CQID035"))
    place = of("CQID011") or next((part.words for part in told if part.name == SITE), "")
    texture = ", ".join(filter(None, (_with(of("CQID036"), "a {} texture"), _visible(told))))
    onset = _with(of("CQID015"), "onset {}")
    symptoms = ", ".join(filter(None, (of("CQID025") or _said(told, "Symptoms"), onset)))
    after = [_with(place, " on the {}"), _with(of("CQID010"), ", {}"), _with(texture, ", with {}")]
    after.append(_with(symptoms, ", {}"))
    named = class_of(with_knowledge(case))
    if not named and not any((*before, *after)):
        return ("",) * len(LADDER)
    steps = ["", named or _NOUN]
    for words in before:
        steps.append(fold(f"{words} {steps[-1]}"))
    for words in after:
        steps.append(f"{steps[-1]}{words}")
    return tuple(steps)


def _answers(case: Case, questions: QuestionSchema) -> Callable[[str], str]:
    """Return a function from a parent question to what is answered, in words; attributes stand in for no answer."""
    sets = questions.to_sets(case.answers or {})
    columns = {name.strip().casefold(): value for name, value in case.attributes.items()}

    def words(parent: str) -> str:
        said = [] if parent not in questions.parents else _options(parent, sets.get(parent, frozenset()), questions)
        return ", ".join(said) or next(
            (fold(columns[name]) for name in _COLUMNS.get(parent, ()) if name in columns), ""
        )

    return words


def _options(parent: str, chosen: frozenset[int], questions: QuestionSchema) -> list[str]:
    slot, unknown = questions.parents[parent][0], questions.not_mentioned(parent)
    options = [plain(questions.option(slot, index)) for index in sorted(chosen) if index != unknown]
    return [words for option in options if (words := _WORDS.get(parent, {}).get(option, option))]


def _said(pieces: list[Part], place: str) -> str:
    """Return what attributes say under a name or a heading of a query."""
    return ", ".join(dict.fromkeys(part.words for part in pieces if place in (part.name, part.place)))


def _visible(pieces: list[Part]) -> str:
    """Return structures, textures and concepts that are there; what is absent says nothing about a mask."""
    kinds = ("Dermoscopy", "Texture")
    seen = (part.words for part in pieces if part.place in kinds or part.name == CONCEPTS)
    return ", ".join(dict.fromkeys(words for words in seen if not words.startswith("no ")))


def _with(words: str, frame: str) -> str:
    return frame.format(words) if words else ""


def tells_gold(prompt: str) -> bool:
    """Return whether a kind of prompt is made from gold annotations: p1 to p9."""
    return prompt in LADDER[1:]


def refuse_gold_prompts(prepared: Prepared) -> None:
    """Raise DataError if the texts of a dataset tell classes and answers: if they are a step from p1 on."""
    step = prepared.manifest.settings.prompt
    if tells_gold(step):
        got = f"texts made from gold answers and classes (magic prepare --prompt {step})"
        expected = "texts that tell no answer, for any task but seg"
        raise DataError(problem(prepared.root, got, expected, "prepare with another --prompt"))
