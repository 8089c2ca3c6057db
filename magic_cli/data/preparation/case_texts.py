"""Texts of every case, one case at a time: knowledge texts and subtexts, and the query, which never tells the class."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from magic_cli.data.issues import counted
from magic_cli.data.prompts import FIXED, LADDER, in_english, strip_html
from magic_cli.data.sources.source import RAW, RawDataset
from magic_cli.data.texts.captions import (
    CONCEPT_TEXT,
    DISEASE_TEXT,
    OVERFLOWS,
    SUBTEXT,
    KnowledgeOptions,
    with_knowledge,
)
from magic_cli.data.texts.label_captions import MOST
from magic_cli.data.texts.leak_guard import LeakCounts, LeakGuard
from magic_cli.data.texts.llm_cache import read_llm_cache, says_nothing
from magic_cli.data.texts.ontology import read_ontology
from magic_cli.data.texts.prompt_ladder import prompted, tells_gold
from magic_cli.data.texts.query_text import NAMES, QueryOptions
from magic_cli.errors import ConfigError, problem, redact_key, shorten
from magic_cli.io.files import StrPath, sha256
from magic_cli.records import CONTENT, TITLE, Case

QUERY_FROM = ("attributes", "caption", "both")


@dataclass(frozen=True, slots=True)
class TextOptions:
    """Which texts `magic prepare` makes.

    Attributes:
        knowledge: make knowledge texts and subtexts; None: for all sources except the challenge and those that bring
            their own.
        ontology: file with a hierarchy of diseases (data/texts/ontology.py).
        llm_cache: file with answers that a language model gave elsewhere (data/texts/llm_cache.py).
        overflow: sentences beyond the eighth are dropped ("drop") or join it ("merge").
        query_from: "attributes", "caption" (up to where it tells the class), or "both"; "" for both where `--map text=`
            names a text, else for attributes. The challenge's queries are what patients wrote.
        label_captions: how many captions are made of the class of a case without a text, 0 to 8.
        query_attributes: names of the attributes that queries tell; () for all (data/texts/query_text.py).
    """

    knowledge: bool | None = None
    ontology: StrPath | None = None
    llm_cache: StrPath | None = None
    overflow: str = "drop"
    query_from: str = ""
    query_attributes: Sequence[str] = ()
    label_captions: int = 0

    def check(self) -> QueryOptions:
        """Return what queries tell.

        Raises:
            ConfigError: an unknown word or attribute.
        """
        for flag, word, words in (
            ("--overflow", self.overflow, OVERFLOWS),
            ("--query-from", self.query_from or "both", QUERY_FROM),
        ):
            if word not in words:
                raise ConfigError(problem(flag, word, " or ".join(words), "choose one of these"))
        if not (isinstance(self.label_captions, int) and 0 <= self.label_captions <= MOST):
            expected = f"a whole number from 0 to {MOST}"
            raise ConfigError(problem("--label-captions", str(self.label_captions), expected, "give another one"))
        if self.label_captions and self.knowledge is False:
            got = "it with --no-knowledge"
            raise ConfigError(problem("--label-captions", got, "texts that are made", "leave out one of the two"))
        return QueryOptions(self.names or NAMES)

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes asked for, without blanks and empty ones."""
        return tuple(filter(None, (name.strip() for name in self.query_attributes)))

    def files(self) -> dict[Path, str]:
        """Return the SHA-256 of the files that are read."""
        return {Path(path): sha256(Path(path)) for path in (self.ontology, self.llm_cache) if path is not None}


class CaseTexts:
    """Adds texts to the cases of a dataset as they pass by, and counts what it did."""

    def __init__(self, raw: RawDataset, classes: Iterable[str], options: TextOptions, prompt: str = "qa") -> None:
        """Read the files that the options name.

        Args:
            raw: the dataset that the cases are of.
            classes: all labels and paths of labels in it, as the source words them.
            options: which texts are made.
            prompt: of `magic prepare`: "fixed" gives every case the same query, "answer" none, "p0" to "p9" a step of
                the ladder (data/texts/prompt_ladder.py).

        Raises:
            DataError: a file is missing or damaged.
            ConfigError: an unknown word or attribute.
        """
        self._raw, self._options, self._prompt = raw, options, prompt
        self._query = options.check()
        self.query_from = options.query_from or ("both" if raw.asks_in_text else "attributes")
        asked = options.knowledge
        self.makes_knowledge = not (raw.is_challenge or raw.has_knowledge) if asked is None else asked
        self._knowledge = KnowledgeOptions(
            overflow=options.overflow,
            ontology=None if options.ontology is None else read_ontology(Path(options.ontology)),
            answers=None if options.llm_cache is None else read_llm_cache(Path(options.llm_cache)),
            questions=raw.questions,
            label_captions=options.label_captions,
        )
        self._guard = None if raw.is_challenge else LeakGuard(classes)
        self.restart()

    def restart(self) -> None:
        """Forget what was counted."""
        self._counts, self._made = LeakCounts(), Counter[str]()
        self._steps = Counter[bool]()  # prompts of the ladder by whether they have words
        self._has_captions = False  # whether an empty query could have been a caption
        if self._knowledge.answers is not None:
            self._knowledge.answers.restart()

    def made(self, case: Case) -> Case:
        """Return a case with its texts."""
        if self._prompt in LADDER:
            case = prompted(case, self._prompt, self._raw.questions)
            self._steps[bool(case.question)] += 1
        elif self._guard is not None:
            case = replace(case, question=self._question(case, self._guard))
        if self.makes_knowledge:
            before = case.texts
            case = with_knowledge(case, self._knowledge)
            roles = [role for role in case.texts if role not in before]
            self._made[RAW] += bool(self._options.label_captions) and RAW in roles and not case.text(CONTENT)
            self._made.update(role for role in roles if role in (DISEASE_TEXT, CONCEPT_TEXT))
            self._made[SUBTEXT] += sum(role.startswith(SUBTEXT) for role in roles)
        return case

    def _question(self, case: Case, guard: LeakGuard) -> str:
        if self._prompt in ("fixed", "answer"):
            return FIXED if self._prompt == "fixed" else ""
        parts = []
        self._counts.queries += 1
        if case.question:  # data of our own schema comes with queries
            return guard.caption(case, case.question, self._counts)
        if self.query_from != "caption":
            parts.append(guard.query(case, self._query, self._counts))
        roles = (TITLE, CONTENT) if self.query_from == "attributes" else (TITLE, CONTENT, RAW)
        for role in roles:  # a patient's own words, in data of our own schema, are a query
            text = strip_html(in_english(case.text(role)))
            if not says_nothing(text):
                parts.append(guard.caption(case, text, self._counts))
        query = " ".join(filter(None, parts))
        while len(parts) > 1 and guard.leak(query, case):  # words of two parts side by side
            query = " ".join(filter(None, parts := parts[:-1]))
        self._counts.empty += not query
        self._has_captions |= not query and bool(case.texts.get(RAW))
        return query

    def report(self) -> None:
        """Write into the log of the dataset what was made, and what was taken out of queries."""
        issues, counts = self._raw.issues, self._counts
        if self.makes_knowledge:
            words = {
                DISEASE_TEXT: "disease texts",
                CONCEPT_TEXT: "concept texts",
                SUBTEXT: "sentence texts",
                RAW: "captions of labels",
            }
            made = ", ".join(f"{self._made[role]:,} {word}" for role, word in words.items() if self._made[role])
            issues.note(f"texts made for pretraining: {made or 'none, as there is no label, concept or caption'}")
            for line in self._knowledge.answers.notes() if self._knowledge.answers else ():
                issues.note(line)
        if tells_gold(self._prompt):
            told = f"{self._steps[True]:,} of {self._steps.total():,} prompts ({self._prompt})"
            issues.note(f"{told} are made from gold answers and classes: upper bounds, which only seg reads")
        if counts.queries:
            without = f"; {counts.empty:,} are empty, as {self._nothing()}" if counts.empty else ""
            issues.note(f"{counts.queries - counts.empty:,} queries are made from {self._source()}{without}")
        if counts.dropped:
            columns = ", ".join(f"{name} {number:,}" for name, number in sorted(counts.dropped.items()))
            queries = counted(counts.touched, "query has", "queries have")
            issues.note(f"{queries} lost values that tell a class or its management ({columns})")
        if counts.cut:
            captions = counted(counts.cut, "caption has", "captions have")
            issues.note(f"{captions} been cut at the sentence that tells a class or its management")
        if counts.nothing_left:
            ids = shorten((redact_key(case_id) for case_id in counts.nothing_left), 3)
            number = len(counts.nothing_left)
            captions = counted(number, "caption that tells the class in its", "captions that tell the class in their")
            got = f"{captions} first sentence ({ids})"
            issues.add_loss(problem("queries", got, "something before it", "use --query-from both, or attributes"))

    def _nothing(self) -> str:
        """Return why a query is empty, and what would fill it."""
        if self.query_from == "attributes":
            captions = " (--query-from both takes captions too)" if self._has_captions else ""
            return f"their cases have none that may be told{captions}"
        return "nothing is left that may be told"

    def _source(self) -> str:
        return {"attributes": "attributes", "caption": "texts", "both": "attributes and texts"}[self.query_from]
