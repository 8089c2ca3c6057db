"""The words of a query: what a case's prepared query says, piece by piece, so that some can be left out in training."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from magic_cli.data.pairs import pair_samples
from magic_cli.data.prepared import Prepared
from magic_cli.data.prompts import fold, in_english
from magic_cli.data.retrieval.attributes import values_of
from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.data.texts.captions import DISEASE_TEXT
from magic_cli.data.texts.pair_texts import class_of
from magic_cli.data.texts.query_text import NAMES, Part, QueryOptions, assemble, parts
from magic_cli.data.texts.sentences import sentences
from magic_cli.records import CONTENT, TITLE, Case, Sample

_ALL = QueryOptions(NAMES)


def query_of(case: Case) -> str:
    """Return the query of a case: what `magic prepare` made of its attributes, or what the patient wrote.

    It never tells the class (data/texts/leak_guard.py), except where a patient names one. Clinicians' answers are not
    part of it.
    """
    return fold(case.question) or fold(" ".join(in_english(case.text(role)) for role in (TITLE, CONTENT)))


def query_parts(case: Case) -> list[Part]:
    """Return the attributes that a case's query tells; [] where it is not made of attributes, or of others as well."""
    query = query_of(case)
    told = [part for part in parts(case, _ALL) if part.words in query]
    return told if assemble(told) == query else []


def words_of(attributes: Mapping[str, str]) -> str:
    """Return the query that attributes make, in the words of `magic prepare`; names that it does not know are left out.

    >>> words_of({"sex": "female", "streaks": "absent"})
    'A female patient. Dermoscopy: no streaks.'
    """
    return assemble(parts(Case("", "", (), {}, attributes=attributes), _ALL))


def without_some(case: Case, rate: float, seed: str) -> str:
    """Return a case's query without some of its attributes, or of its sentences where it is not made of attributes.

    Args:
        case: of the query.
        rate: probability that a piece is left out, in [0, 1); with the same probability squared nothing is left.
        seed: decides which.
    """
    drawn = random.Random(seed)  # noqa: S311  not a secret
    if not rate:
        return query_of(case)
    if drawn.random() < rate * rate:
        return ""
    pieces = query_parts(case)
    if pieces:
        return assemble([part for part in pieces if drawn.random() >= rate])
    return " ".join(sentence for sentence in sentences(query_of(case)) if drawn.random() >= rate)


def photo_samples(prepared: Prepared, split: str, classes: str = "") -> Sequence[Sample]:
    """Return one sample per photo, in prepared order; `classes` names the attribute that is the class (`with_class`).

    Raises:
        DataError: a split other than train, valid, test.
    """
    samples = pair_samples(prepared, split, needs_text=False)
    return tuple(with_class(sample, classes) for sample in samples) if classes else samples


def with_class(sample: Sample, attribute: str) -> Sample:
    """Return a sample whose class is what its case's attribute says; without that attribute it has no class.

    With "" as attribute the class is the diagnosis, as it was.
    """
    if not attribute:
        return sample
    case = sample.case
    texts = {role: text for role, text in case.texts.items() if role != DISEASE_TEXT}  # it names the diagnosis
    label = str(case.attributes.get(attribute, "")).strip() or None
    return replace(sample, case=replace(case, label=label, texts=texts))


def labelled_samples(prepared: Prepared, split: str, classes: str = "") -> tuple[Sample, ...]:
    """Return one sample per photo whose case has a class, in prepared order; see `photo_samples`."""
    return tuple(sample for sample in photo_samples(prepared, split, classes) if class_of(sample.case))


def retrieval_gold(
    source: str, queries: Sequence[Sample], gallery: Sequence[Sample], protocol: str, classes: str = ""
) -> RetrievalGold:
    """Return the gold of samples that ask, and of those that are ranked; `classes` is only noted in it."""
    samples = {sample.id: sample for sample in (*queries, *gallery)}
    return RetrievalGold(
        source=source,
        labels={name: label for name, sample in samples.items() if (label := class_of(sample.case))},
        groups={name: sample.case.group_id or sample.case.case_id for name, sample in samples.items()},
        queries=tuple(sample.id for sample in queries),
        gallery=tuple(sample.id for sample in gallery),
        attributes={name: values_of(query_parts(s.case)) for name, s in samples.items()},
        samples=gallery,
        protocol=protocol,
        classes=classes,
    )
