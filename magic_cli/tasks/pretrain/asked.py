"""What is asked about every photo: the classes to choose from, the sentences about them, and concepts with synonyms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from magic_cli.data.pair_gold import PairGold
from magic_cli.data.prompts import fold, name_key
from magic_cli.errors import ConfigError, DataError, printable, problem, shorten
from magic_cli.io.json_files import parse_json, read_json
from magic_cli.io.regular_file import read_regular
from magic_cli.tasks.pretrain.prompts import CLASS_TEMPLATES, TEMPLATE_WORDINGS
from magic_cli.training.task import Decision

PLACE = "{}"  # of the class in a template

ClassesBy = Literal["concepts", "sparse", "joint", "encoder"]

UNITS, ACTIVE, MOST_UNITS = 256, 16, 65_536  # of a sparse autoencoder

_MOST = 1 << 24  # bytes of a list


@dataclass(frozen=True)
class Concept:
    """A concept and the words for it: its name, or its synonyms."""

    name: str
    terms: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """What is asked about every photo.

    Attributes:
        classes: the classes to choose from.
        templates: sentences with {} for the class.
        concepts: what may be seen.
        presence: whether to say of each class where a photo is most like it, so that absent ones can be told.
    """

    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = CLASS_TEMPLATES
    concepts: tuple[Concept, ...] = ()
    presence: bool = False


@dataclass(frozen=True)
class PretrainDecision(Decision):
    """What is asked of the photos, instead of what their gold says.

    Attributes:
        classes: names divided by commas, a JSON list, or a file of either kind or with a name per line.
        concepts: a file with a concept per line, a JSON list, or a JSON object of concepts with lists of synonyms.
        templates: a file with a sentence per line, or a JSON list; {} or {c} is the class.
        presence: also write the highest similarity of a place on each photo to each class.
        probe: fit linear probes instead.
        reword: one of TEMPLATE_WORDINGS, instead of MAKE's templates.
        classes_by: what a linear model that is fitted on split train reads, instead of prompts of classes.
        sparse: of classes_by="sparse", units of the autoencoder and how many are active at once, such as "256,16".
        what_if: an id and concepts, as tasks/bottleneck.py reads them.
        attributes: names that probes are fitted for instead of the class, divided by commas.
    """

    classes: str | None = None
    concepts: str | None = None
    templates: str | None = None
    presence: bool = False
    probe: bool = False
    reword: str | None = None
    classes_by: ClassesBy | None = None
    sparse: str | None = None
    what_if: str | None = None
    attributes: str | None = None

    def __post_init__(self) -> None:
        """Refuse another rewording, one beside templates that are given, and options that do not go together."""
        if self.reword not in (None, *TEMPLATE_WORDINGS):
            expected = f"{' or '.join(TEMPLATE_WORDINGS)} for pretrain"
            raise ConfigError(problem("--reword", self.reword, expected, "choose one of these"))
        if self.reword and self.templates:
            raise ConfigError(problem("--reword", "it with --templates", "one of the two", "leave one out"))
        self._check_reading()

    def _check_reading(self) -> None:
        if self.classes_by not in (None, *get_args(ClassesBy)):
            expected = ", ".join(get_args(ClassesBy))
            raise ConfigError(problem("--classes-by", self.classes_by, expected, "choose one of these"))
        if self.sparse is not None and self.classes_by != "sparse":
            raise ConfigError(problem("--sparse", "it alone", "--classes-by sparse with it", "add it"))
        if self.sparse is not None:
            self.units()
        if self.what_if is not None and self.classes_by not in ("concepts", "sparse"):
            expected = "--classes-by concepts or sparse with it"
            raise ConfigError(problem("--what-if", "it alone", expected, "add it, or leave --what-if out"))
        others = (self.classes, self.templates, self.reword)
        if self.classes_by is not None and (self.probe or self.presence or others != (None, None, None)):
            got, expected = (
                "--probe, --presence, --classes, --templates or --reword with it",
                "the classes of split train",
            )
            raise ConfigError(problem("--classes-by", got, expected, "leave them out"))

    def units(self) -> tuple[int, int]:
        """Return the units of a sparse autoencoder, and how many are active at once; raises ConfigError."""
        if self.sparse is None:
            return UNITS, ACTIVE
        first, _, second = self.sparse.partition(",")
        units, active = (int(part) if part.strip().isdecimal() else 0 for part in (first, second))
        if not 1 <= active <= units <= MOST_UNITS:
            expected = f"units, {MOST_UNITS} at most, and fewer that are active at once, such as {UNITS},{ACTIVE}"
            raise ConfigError(problem("--sparse", self.sparse, expected, "write it like this"))
        return units, active


def asked(gold: PairGold, decision: PretrainDecision | None = None) -> Asked:
    """Return what to ask: what a decision says, else the classes and concepts of the gold, and MAKE's templates.

    Raises:
        ConfigError: a list that cannot be read or is empty, a name twice, fewer than two classes, or a template without
            a place for the class.
    """
    chosen = decision or PretrainDecision()
    classes = gold.class_names if len(gold.class_names) > 1 else ()
    templates = TEMPLATE_WORDINGS[chosen.reword] if chosen.reword else CLASS_TEMPLATES
    if chosen.classes is not None:
        classes = _classes(chosen.classes)
    if chosen.templates is not None:
        templates = _templates(chosen.templates)
    if chosen.presence and not classes:
        got, remedy = f"{gold.source} without classes", "name some with --classes"
        raise ConfigError(problem("--presence", got, "two or more classes", remedy))
    concepts = tuple(Concept(name, (name,)) for name in gold.concept_names)
    if chosen.concepts is not None:
        concepts = concepts_in(chosen.concepts)
    return Asked(classes, templates, concepts, chosen.presence)


def _classes(words: str) -> tuple[str, ...]:
    if words.lstrip().startswith("["):
        found = _listed("--classes", _parsed("--classes", words))
    elif _is_file(words):
        found = _listed(words, _read(words))
    else:
        found = words.split(",")
    names = _distinct("--classes", found)
    if len(names) < 2:
        got = shorten(names) or "nothing"
        fix = "name them, with commas"
        if len(names) == 1 and Path(names[0]).suffix:
            fix += "; there is no file of this name"
        raise ConfigError(problem("--classes", got, "two or more classes, or a file of them", fix))
    return names


def _is_file(words: str) -> bool:
    try:
        return Path(words).is_file()
    except (OSError, ValueError):  # too long for a name
        return False


def concepts_in(name: str) -> tuple[Concept, ...]:
    """Return the concepts in a file: names, or a JSON object of names with their synonyms (MONET's ConceptTerms.json).

    A concept without synonyms stands for itself.

    Raises:
        ConfigError: it cannot be read, or has no concepts.
    """
    value = _read(name)
    if not isinstance(value, Mapping):
        return tuple(Concept(concept, (concept,)) for concept in _distinct(name, _listed(name, value)))
    concepts = _distinct(name, list(value))
    synonyms = [[terms] if isinstance(terms, str) else _listed(name, terms) for terms in value.values()]
    found = (tuple(dict.fromkeys(filter(None, map(fold, terms)))) for terms in synonyms)
    return tuple(Concept(concept, terms or (concept,)) for concept, terms in zip(concepts, found, strict=True))


def _templates(name: str) -> tuple[str, ...]:
    lines = [line.replace("{c}", PLACE) for line in _distinct(name, _listed(name, _read(name)))]
    bad = [line for line in lines if line.count(PLACE) != 1]
    if bad:
        raise ConfigError(problem(name, bad[0], f"one {PLACE} for the class in each line", "add it"))
    return tuple(lines)


def _read(name: str) -> object:
    """Return what a file lists: JSON, or lines of text; lines of # are left out."""
    path = Path(name)
    try:
        if path.suffix.casefold() == ".json":
            return read_json(path, _MOST)
        text = read_regular(path, _MOST).decode("utf-8-sig")
    except DataError as error:
        raise ConfigError(error.problems) from None
    except (OSError, ValueError) as error:
        got = getattr(error, "strerror", None) or "no text in UTF-8"
        raise ConfigError(problem(printable(name), got, "a list of names", "check the file")) from None
    if text.lstrip().startswith("["):
        return _parsed(name, text)
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _parsed(name: str, text: str) -> object:
    try:
        return parse_json(text.encode())
    except (ValueError, RecursionError):
        raise ConfigError(problem(name, "no JSON", "a JSON list of names", "check it")) from None


def _listed(name: str, value: object) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(problem(name, "another kind of JSON", "a list of names", "check it"))
    return value


def _distinct(name: str, words: Sequence[str]) -> tuple[str, ...]:
    names = tuple(filter(None, map(fold, words)))
    keys = list(map(name_key, names))
    twice = sorted({word for number, word in enumerate(names) if keys[number] in keys[:number]})
    if twice or not names:
        got = f"{shorten(twice)} twice" if twice else "no names"
        raise ConfigError(problem(name, got, "each name once", "fix the list"))
    return names
