"""Inconsistencies in the training data of closed questions: option texts, answers, texts, photos."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from magic_cli.data.issues import by_kind
from magic_cli.data.prepared import MANIFEST, Prepared
from magic_cli.data.prompts import written_in
from magic_cli.data.questions import QuestionSchema
from magic_cli.errors import first_lines, shorten
from magic_cli.records import Case, Sample

if TYPE_CHECKING:
    from magic_cli.tasks.cvqa.config import CvqaConfig


_MOST = 10

_ANSWERS = "cvqa"  # in the name of every file of answers (data/sources/dermavqa/tables.py)

_NO_DEFINITIONS = "no closedquestions_definitions"


def data_warnings(prepared: Prepared, samples: Sequence[Sample], config: "CvqaConfig") -> list[str]:
    """Return one line per kind of inconsistency in these samples; [] if there is none.

    Of the problems that `magic prepare` noted, only those about answers and definitions are repeated. At most ten ids
    are listed per kind.
    """
    own = {sample.case.case_id: sample.case for sample in samples}
    lines = [*_languages(prepared.questions), *_order(prepared.questions, own), *_left_out(prepared)]
    lines += _photos(prepared, own) if config.modality != "text" else ()
    if config.reads_text and (config.head != "options" or config.encounter_text):
        bare = [name for name, encounter in own.items() if not (encounter.question + encounter.answer).strip()]
        lines += [f"{len(bare)} of {len(own)} encounters with answers have no text ({shorten(bare)})"] if bare else []
    return [*lines, *_unread(own, config)]


def _unread(encounters: Mapping[str, Case], config: "CvqaConfig") -> Iterator[str]:
    """Yield one line per text setting without effect."""
    if config.head == "options" or not config.reads_text:
        return
    if not config.encounter_text:
        yield "encounter_text=false applies to head=options only; this model reads the text unless --modality image"
    read = {n: replace(e, answer="") if config.responses == "apart" else e for n, e in encounters.items()}
    unread = [
        name
        for name, case in read.items()
        if case.question + case.answer and not any(written_in(case, lang) for lang in config.languages)
    ]
    if config.rules and unread:
        got = f"{len(unread)} of {len(encounters)} encounters with answers have no text in lang={config.lang}"
        yield f"{got} ({shorten(unread)}); their rules read the prompt instead, in any language"


def _languages(questions: QuestionSchema) -> Iterator[str]:
    """Yield one line per parent whose languages have "Not mentioned" at different indices."""
    for parent in questions.parents:
        indices = questions.unknown_of(parent)
        if len(set(indices.values())) > 1:
            named = ", ".join(f"{index} in {lang}" for lang, index in indices.items())
            yield f"{parent}: Not mentioned is option {named}; the languages of the definitions differ in order"


def _order(questions: QuestionSchema, encounters: Mapping[str, Case]) -> Iterator[str]:
    """Yield one line per parent in whose answers "Not mentioned" precedes a value.

    Gold never has that (examples/closed-questions.md, "Structure of the gold"): such indices are 1-based or refer to
    options other than those of the definitions.
    """
    for parent, qids in questions.parents.items():
        padding = questions.not_mentioned(parent)
        wrong = []
        for name, encounter in encounters.items():
            values = [(encounter.answers or {}).get(qid) for qid in qids]
            if padding in values and set(values[values.index(padding) :]) != {padding}:
                wrong.append(name)
        if wrong:
            got = f"{len(wrong)} of {len(encounters)} answers have a value after {padding}, Not mentioned"
            yield f"{parent}: {got} ({shorten(wrong)}); do they index options other than the definitions'?"


def _left_out(prepared: Prepared) -> Iterator[str]:
    """Yield the problems with answers and definitions that `magic prepare` noted: a line per kind, the first ten."""
    yield from (note for note in prepared.manifest.notes if note.startswith(_NO_DEFINITIONS))
    lines = [line for line in prepared.manifest.problems if _ANSWERS in line.partition(":")[0].casefold()]
    yield from first_lines(by_kind(lines), prepared.root / MANIFEST, _MOST)


def _photos(prepared: Prepared, encounters: Mapping[str, Case]) -> Iterator[str]:
    """Yield a line for encounters without any of their listed photos, and one for those with only some."""
    without, fewer = [], []
    for name, encounter in encounters.items():
        present = [i for i in encounter.image_ids if i in prepared.images and prepared.images[i].path is not None]
        if not present:
            without.append(name)
        elif len(present) < len(encounter.image_ids):
            fewer.append(name)
    for names, what in ((without, "have no photo"), (fewer, "lack some of their photos")):
        if names:
            yield f"{len(names)} of {len(encounters)} encounters with answers {what} ({shorten(names)})"
