"""Texts for pretraining: the knowledge set (raw, disease, concept) and the subtexts of a case, by templates.

Source: MAKE (Yan et al., MICCAI 2025), section 2.1. A language model found its disease and
concept terms; here they are from labels and hierarchies, closed answers, attributes, answers of a model that were made
elsewhere, and else from the lexicon. No network is used. A text that cannot be made is absent.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from magic_cli.data.prompts import clean, fold, pick
from magic_cli.data.questions import NO_QUESTIONS, QuestionSchema, plain
from magic_cli.data.sources.source import CONCEPTS, LABEL_PATH, RAW
from magic_cli.data.texts.label_captions import label_captions
from magic_cli.data.texts.lexicon import CONCEPT, DISEASE, Mention, Term, lexicon
from magic_cli.data.texts.llm_cache import Answer, LlmCache, says_nothing
from magic_cli.data.texts.ontology import Ontology, parts_of
from magic_cli.data.texts.sentences import sentences
from magic_cli.records import CONTENT, TITLE, Case

DISEASE_TEXT, CONCEPT_TEXT, SUBTEXT = "disease", "concept", "subtext-"  # roles; a number from 1 follows the last

MOST_SUBTEXTS = 8  # of MAKE's release

OVERFLOWS = ("drop", "merge")

# What closed answers say as a concept, {} is the option; parents of the challenge
_PHRASES = {
    "CQID010": "{}",
    "CQID011": "{}",
    "CQID012": "{}",
    "CQID015": "onset {}",
    "CQID020": "{}",
    "CQID025": "{}",
    "CQID034": "{}",
    "CQID035": "{}",
    "CQID036": "{}",
}

_WORDED = {
    ("CQID025", "yes"): "itch",
    ("CQID025", "no"): "no itch",
    ("CQID035", "single"): "single lesion",
    ("CQID035", "multiple"): "multiple lesions",
    ("CQID034", "combination"): "combination of colors",
    ("CQID011", "other"): "",
}

# classes that name no disease
_NO_DISEASE = re.compile(
    r"[\W\d_]*|(?:no|non|not|yes|true|false|other|others|unknown|unk|none|normal|healthy|control|undefined|unlabel+ed"
    r"|not mentioned|indeterminate|uncertain|miscellaneous|other diseases?|benign|malignant)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class KnowledgeOptions:
    """How knowledge texts and subtexts are made.

    Attributes:
        most: subtexts per case; what is left is dropped, or merged into the last one (`overflow` "merge").
        overflow: "drop" or "merge".
        ontology: classes of diseases; None for those of the source and the lexicon.
        answers: what a language model found elsewhere; None without.
        questions: the closed questions that `Case.answers` are about.
        label_captions: for cases without a text: how many captions are made of their class, the first as raw text.
    """

    most: int = MOST_SUBTEXTS
    overflow: str = "drop"
    ontology: Ontology | None = None
    answers: LlmCache | None = None
    questions: QuestionSchema = NO_QUESTIONS
    label_captions: int = 0


def with_knowledge(case: Case, options: KnowledgeOptions = KnowledgeOptions()) -> Case:
    """Return a case with the texts "raw", "disease", "concept", "subtext-1", ... where they can be made.

    Texts that a source brings itself under these roles are kept as they are. Texts made by templates are English.
    """
    lang, raw = _raw(case)
    answer = options.answers.answer(case, raw) if options.answers else None
    mentions: list[Mention] | None = None
    texts = dict(case.texts)
    if raw and not any(case.text(RAW).values()):
        texts[RAW] = {lang: raw}
    for role, make in ((DISEASE_TEXT, _disease_text), (CONCEPT_TEXT, _concept_text)):
        if any(texts.get(role, {}).values()):
            continue
        if mentions is None:
            mentions = lexicon().mentions(raw) if raw else []
        text = make(case, mentions, answer, options)
        if text:
            texts[role] = {"en": text}
    if not raw and options.label_captions:
        path = disease_path(case, (), answer, options.ontology)
        captions = label_captions(path[-1] if path else "", case.case_id, options.label_captions)
        roles = (RAW, *(f"{SUBTEXT}{number}" for number in range(1, len(captions))))
        texts |= {role: {"en": caption} for role, caption in zip(roles, captions, strict=False)}
    if raw and not any(role.startswith(SUBTEXT) for role in texts):
        for number, sentence in enumerate(limited(sentences(raw), options), 1):
            texts[f"{SUBTEXT}{number}"] = {lang: sentence}
    return case if texts == case.texts else replace(case, texts=texts)


def _raw(case: Case) -> tuple[str, str]:
    """Return the language and the text that is said about a case; of the challenge, what clinicians answered.

    Without an answer it is the patient's question; "" if nothing is said.
    """
    given = {lang: text for lang, text in case.text(RAW).items() if not says_nothing(text)}
    if given:
        lang = "en" if "en" in given else next(iter(given))
        return lang, given[lang]
    if case.text(RAW) or not case.texts:
        return "en", ""
    lang = (
        "en" if any(text.get("en") for text in case.responses) else next((k for t in case.responses for k in t), "en")
    )
    answers = dict.fromkeys(filter(None, (clean(text.get(lang, "")) for text in case.responses)))
    if answers:
        return lang, "\n".join(answers)
    return "en", fold(f"{pick(case.text(TITLE), 'en')} {pick(case.text(CONTENT), 'en')}")


def limited(parts: Sequence[str], options: KnowledgeOptions) -> Sequence[str]:
    """Return at most `options.most` subtexts of these."""
    if len(parts) <= options.most:
        return parts
    if options.overflow == "merge":
        return [*parts[: options.most - 1], ". ".join(parts[options.most - 1 :])]
    return parts[: options.most]


def _disease_text(case: Case, mentions: list[Mention], answer: Answer | None, options: KnowledgeOptions) -> str:
    if not case.text(RAW) and not case.responses:
        mentions = []  # a patient's guess is no diagnosis
    path = disease_path(case, mentions, answer, options.ontology)
    return f"This is a skin photo diagnosed as {', '.join(path)}." if path else ""


def disease_path(
    case: Case, mentions: Iterable[Mention], answer: Answer | None, ontology: Ontology | None
) -> tuple[str, ...]:
    """Return the classes of the disease of a case from the widest on, its name last; () without a diagnosis.

    The source's own label counts most, then the answer of a language model, then the disease that the text names most
    often and does not negate.
    """
    label = case.label if case.label and not _NO_DISEASE.fullmatch(case.label.strip()) else None
    own = tuple(_name(part) for part in parts_of(case.attributes.get(LABEL_PATH, "")))
    if label or own:
        name = label or own[-1]
        return _unique(_from_ontology(name, ontology) or (own if len(own) > 1 else _from_lexicon(name)))
    if answer is not None:
        names = list(answer.diseases)
    else:
        counts = Counter(m.term for m in mentions if m.term.kind == DISEASE and not m.is_negated)
        names = [term.name for term, _ in counts.most_common(1)]
    if not names:
        return ()
    known = lexicon().exact(names[0])
    return _unique(_from_ontology(names[0], ontology) or _from_lexicon(known.name if known else names[0]))


def _unique(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple({part.casefold(): part for part in path if part}.values())


def _name(label: str) -> str:
    """Return a class in words: abbreviations such as "BCC" are spelled out, the source's own words stay."""
    term = lexicon().exact(label)
    is_code = term is not None and term.kind == DISEASE and label.strip().upper() in lexicon().synonyms[term]
    return term.name if term and is_code else label.replace("_", " ").strip()


def _from_ontology(name: str, ontology: Ontology | None) -> tuple[str, ...]:
    if ontology is None:
        return ()
    term = lexicon().exact(name)
    names = (name, *(lexicon().synonyms[term] if term and term.kind == DISEASE else ()))
    return next((path for synonym in names if (path := ontology.path(synonym))), ())


def _from_lexicon(name: str) -> tuple[str, ...]:
    term: Term | None = lexicon().exact(name)
    return (*term.path, _name(name)) if term and term.kind == DISEASE else (_name(name),)


def _concept_text(case: Case, mentions: list[Mention], answer: Answer | None, options: KnowledgeOptions) -> str:
    named = [item for item in case.attributes.get(CONCEPTS, "").split(";") if item.strip()]
    if answer is not None:
        read = list(answer.concepts)
    else:
        read = [m.term.name for m in mentions if m.term.kind == CONCEPT and not m.is_negated]
    concepts = [*answer_phrases(case, options.questions), *(clean(item) for item in named), *read]
    unique: dict[str, str] = {}
    for concept in concepts:
        term = lexicon().exact(concept)
        unique.setdefault(term.name if term else concept.casefold(), concept[:1].lower() + concept[1:])
    return f"This skin photo shows {', '.join(unique.values())}." if unique else ""


def answer_phrases(case: Case, questions: QuestionSchema) -> list[str]:
    """Return what the closed answers say, in words; "Not mentioned" says nothing.

    The answers to split test are what is to be predicted, so they say nothing here.
    """
    if case.answers is None or case.split == "test" or not questions.slots:
        return []
    phrases: list[str] = []
    sets = questions.to_sets(case.answers)
    for parent, phrase in _PHRASES.items():
        for index in sorted(sets.get(parent, ())):
            options: Mapping[str, tuple[str, ...]] = questions.by_qid[questions.parents[parent][0]].options
            words = next(iter([options[lang] for lang in ("en",) if lang in options] or options.values()))
            if index == questions.not_mentioned(parent) or index >= len(words):
                continue
            option = plain(words[index])
            worded = _WORDED.get((parent, option), phrase.format(option))
            phrases += [worded] if worded else []
    return list(dict.fromkeys(phrases))
