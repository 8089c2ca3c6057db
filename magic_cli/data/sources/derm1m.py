"""Derm1M, Derm1M-AgentAug, and the CSV that MAKE and O-MAKE train on: an image and its texts per row.

All texts stay apart by their role: "raw" the
caption, "truncated" and "augmented" its variants, "disease" the ontology caption, "concept" the visual-concept caption,
"subtext-1" to "subtext-8" the subcaptions. A text that its mask excludes is absent.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.sources.cells import flag, image_id_of, literal, number, present, texts
from magic_cli.data.sources.csv_rows import CsvTable, Row, columns_of, note_unknown, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles, split_of
from magic_cli.data.sources.lfs import is_pointer
from magic_cli.data.sources.source import (
    AGE,
    CONCEPTS,
    LABEL_PATH,
    LONGEST_ATTRIBUTE,
    RAW,
    SEX,
    SITE,
    RawCase,
    RawDataset,
    RawPhoto,
    ReadOptions,
    Source,
)
from magic_cli.errors import DataError, problem, shorten
from magic_cli.io.regular_file import open_regular
from magic_cli.records import Case

_CAPTIONS = frozenset({"caption", "truncated_caption"})

ROLES = {  # column to role; the knowledge mask is in the order (caption, ontology, visual concept)
    "caption": RAW,
    "ontology_caption": "disease",
    "visual_concept_caption": "concept",
}

SUBTEXTS = tuple(f"subcaption_{number}" for number in range(1, 9))

_MASKS = ("knowledge_masks", "sub_caption_mask")

_AGENT = frozenset({"agent_generated", "ontology_label"})  # columns of AgentAug alone

LABELS = ("disease_label", "standardized_disease")

_PATHS = ("hierarchical_disease_label", "ontology_final")

_CONCEPTS = ("skin_concept", "skin_concept_standarized", "skin_concept_standardized")

_FACTS = (  # columns that become attributes under their own names
    *(*LABELS, *_PATHS, *_CONCEPTS, *sorted(_AGENT)),
    *("source", "source_type", "body_location", "symptoms", "gender", "sub_captions"),
)

LICENCES = ("license", "licence", "copyright_license")

_KNOWN = frozenset(
    {"filename", "truncated_caption", "augmented_caption", "age", *ROLES, *SUBTEXTS, *_MASKS, *_FACTS, *LICENCES}
)

_MARKS = frozenset({*LABELS, *_PATHS, *_CONCEPTS, *_AGENT, *_MASKS, "ontology_caption", "visual_concept_caption"})

# "No definitive diagnosis", "[No matching attributes]", "No age information"
_NOTHING = re.compile(
    r"\W*(?:(?:no|not|without)\b.{0,40}?\b(?:diagnos[ei]s|information|info|attributes?|concepts?|labels?|diseases?"
    r"|symptoms?|mentioned|specified|available|provided|applicable|mapped)|unknown|unmapped|unspecified)\W*",
    re.I,
)

_EMPTY_KNOWLEDGE = re.compile(r"no (?:definitive diagnosis|matching attributes|visual concepts?)", re.I)

_STEPS = re.compile(r"\s*(?:->|→|>|\||;)\s*")

_AGE = re.compile(r"(\d{1,3}(?:\.\d+)?)[\s-]*(?:(?:year|yr)s?(?:[\s-]*olds?|[\s-]*of[\s-]*age)?|y/?o|y|yo)?\.?", re.I)

_MONTHS = re.compile(r"(\d{1,3})[\s-]*(?:months?|mo)(?:[\s-]*olds?)?\.?", re.I)

_SEXES = {"m": "male", "man": "male", "boy": "male", "f": "female", "woman": "female", "girl": "female"}


class Derm1M(Source):
    """Derm1M v2 and what was made of it."""

    name = "derm1m"
    title = "Derm1M, Derm1M-AgentAug, MAKE and O-MAKE CSV"
    origin = "https://huggingface.co/datasets/redlessone/Derm1M"
    licence = "CC BY-NC 4.0; AgentAug CC BY-NC-ND 4.0"
    expected = "Derm1M_v2_pretrain.csv, Derm1M_v2_validation.csv or MAKE's CSV; the folders of photos, unpacked"

    def find(self, files: SourceFiles) -> str:
        """Return the first table with file names, captions and one of its own columns, or what stands in its place."""
        tables = _tables(files)
        if tables:
            return tables[0]
        pointers = (path for path in files.named("*derm1m*.csv") if is_pointer(path))
        parquet = (path for path in files.named("*.parquet") if _has_columns(path))
        return next(pointers, "") or next(parquet, "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the pairs of the richest table of each split.

        Raises:
            DataError: no such table, a Git LFS pointer, or Parquet.
        """
        tables = _tables(files)
        if not tables:
            _refuse(files)
        chosen = _richest([open_csv(path, files) for path in tables], files.issues)
        for table in chosen:
            note_unknown(table, _KNOWN, files.issues)
        return RawDataset(
            source=self.name,
            root=files.root,
            cases=_Pairs(files).read(chosen),
            issues=files.issues,
            inputs=files.digests(*(table.path for table in chosen)),
            repeats_ids=True,
            has_knowledge=any(table.has("ontology_caption") for table in chosen),
        )


SOURCE = Derm1M()


def _tables(files: SourceFiles) -> list[str]:
    return [path for path in tables_with(files, "filename") if _is_ours(path)]


def _is_ours(path: str) -> bool:
    columns = columns_of(path)
    return not _CAPTIONS.isdisjoint(columns) and not _MARKS.isdisjoint(columns)


def _refuse(files: SourceFiles) -> NoReturn:
    """Say what is there instead of a table."""
    for path in files.named("*derm1m*.csv"):
        open_csv(path, files)  # a pointer, or no table at all
    for path in files.named("*.parquet"):
        remedy = "write it as CSV: pandas.read_parquet(...).drop(columns='image').to_csv(...)"
        raise DataError(problem(files.name(path), "a Parquet file", "the CSV of the release", remedy))
    expected = "Derm1M_v2_pretrain.csv or MAKE's CSV, with filename, caption and labels or masks"
    raise DataError(problem(files.root, "no table of Derm1M", expected, "check --data and --source"))


def _has_columns(path: str) -> bool:
    """Return whether a Parquet file has such columns: its last bytes name them."""
    try:
        with open_regular(path) as file:
            file.seek(-min(1 << 16, file.seek(0, 2)), 2)
            tail = file.read()
    except OSError:
        return False
    return tail.endswith(b"PAR1") and b"caption" in tail and any(mark.encode() in tail for mark in _MARKS)


def _richest(tables: Sequence[CsvTable], issues: IssueLog) -> list[CsvTable]:
    """Return the tables to read: of each split those with most columns, as others have the same photos."""
    best: Counter[str] = Counter()
    for table in tables:
        split = split_of(table.path)
        best[split] = max(best[split], _richness(table))
    chosen = [table for table in tables if _richness(table) == best[split_of(table.path)]]
    left = [table.name for table in tables if table not in chosen]
    if left:
        names = shorten([table.name for table in chosen], 4)
        issues.note(f"{shorten(left, 4)}: not read, as {names} has more columns; move it away to read the other")
    return chosen


def _richness(table: CsvTable) -> int:
    return len(_KNOWN.intersection(table.columns))


@dataclass
class _Pairs:
    """Reads rows, and counts what is told of all of them."""

    files: SourceFiles
    vqa: Counter[str] = field(default_factory=Counter)
    rewritten: int = 0

    def read(self, tables: Sequence[CsvTable]) -> Iterator[RawCase]:
        """Yield the pairs of all tables, and note what is told of all of them."""
        for table in tables:
            split = split_of(table.path)
            for row in table.rows(self.files.issues):
                try:
                    pair = self._pair(row, table, split)
                except DataError as error:
                    self.files.issues.add_loss(error.problems[0], "cases")
                    continue
                if pair is not None:
                    yield pair
        self._note()

    def _pair(self, row: Row, table: CsvTable, split: str) -> RawCase | None:
        written = (row.get("filename") or "").replace("\\", "/").removeprefix("./")
        if not written:
            raise DataError(problem(row.where, "no filename", "the path of a photo", "complete the row"))
        if written.casefold().startswith("vqa/"):
            self.vqa[table.name] += 1
            return None
        image_id, path = image_id_of(written.strip("/").replace("/", "_")), self.files.photo(written)
        is_rewritten = flag(row.get("agent_generated")) is True
        self.rewritten += is_rewritten
        case = Case(
            case_id=image_id,
            split=split,
            image_ids=(image_id,),
            texts={role: {"en": text} for role, text in texts_of(row, table.columns).items()},
            label=first_said(row, LABELS),
            attributes=attributes_of(row),
            licence=_licence(row, not _AGENT.isdisjoint(table.columns), is_rewritten),
        )
        return RawCase(case, (RawPhoto(image_id, path),) if path else (), row.where)

    def _note(self) -> None:
        issues = self.files.issues
        for name, count in self.vqa.items():
            got = f"{count:,} {'row' if count == 1 else 'rows'} whose photo is in VQA/"
            issues.add_loss(problem(name, got, "photos of the pretraining set", "they are left out"), "cases", count)
        if self.rewritten:
            captions = counted(self.rewritten, "caption is", "captions are")
            issues.note(f"{captions} rewritten by an agent: agent_generated and the licence say so")


def texts_of(row: Row, columns: Collection[str]) -> dict[str, str]:
    """Return role to text of a row with some of these columns, less what the masks exclude.

    Raises:
        DataError: a mask is no list of zeros and ones; one line.
    """
    knowledge = dict(zip(ROLES, _mask(row, "knowledge_masks", len(ROLES)), strict=True))
    subtexts = [column for column in SUBTEXTS if column in columns]
    kept = dict(zip(subtexts, _mask(row, "sub_caption_mask", len(subtexts)), strict=True)) if subtexts else {}
    found = {role: row.get(column) for column, role in ROLES.items() if knowledge[column]}
    found |= {"truncated": row.get("truncated_caption"), "augmented": row.get("augmented_caption")}
    found |= {f"subtext-{column.rpartition('_')[2]}": row.get(column) for column, is_kept in kept.items() if is_kept}
    if knowledge["caption"]:
        found[RAW] = found.get(RAW) or found["truncated"]
    for role in ("disease", "concept"):
        if _EMPTY_KNOWLEDGE.search(found.get(role) or ""):
            found[role] = None
    if not knowledge["caption"] or found["truncated"] == found.get(RAW):
        found["truncated"] = None
    return {role: text for role, text in found.items() if text}


def _mask(row: Row, column: str, size: int) -> tuple[bool, ...]:
    """Return a mask of `size` zeros and ones; all ones where the cell is missing.

    Raises:
        DataError: anything else.
    """
    where = f"{row.where}:{column}"
    value = literal(row.get(column), where)
    if value is None:
        return (True,) * size
    if not isinstance(value, list | tuple) or len(value) != size or any(item not in (0, 1) for item in value):
        got = f"{len(value)} items" if isinstance(value, list | tuple) and len(value) != size else "something else"
        raise DataError(problem(where, got, f"a list of {size} zeros and ones", "fix the cell"))
    return tuple(bool(item) for item in value)


def first_said(row: Row, columns: Sequence[str]) -> str | None:
    """Return the first of some cells that says something."""
    return next((text for column in columns if (text := _said(row.get(column)))), None)


def _said(text: str | None) -> str | None:
    """Return a text, None for one that says that there is nothing to say, such as "No definitive diagnosis"."""
    text = present(text)
    return None if text is None or _NOTHING.fullmatch(text) else text


def attributes_of(row: Row) -> Mapping[str, str]:
    """Return what a row says besides its texts: its own columns, and those that mean the same in every dataset."""
    own = {column: text[:LONGEST_ATTRIBUTE] for column in _FACTS if (text := row.get(column)) is not None}
    if "ontology_label" in own and number(own["ontology_label"]) == -1:  # unmapped
        del own["ontology_label"]
    agent = flag(own.get("agent_generated"))
    canonical = {
        AGE: _years(_said(row.get("age"))),
        SEX: _sex(_said(row.get("gender"))),
        SITE: _said(row.get("body_location")),
        LABEL_PATH: " > ".join(_items(row, _PATHS)),
        CONCEPTS: "; ".join(_items(row, _CONCEPTS)),
        "agent_generated": None if agent is None else str(agent).casefold(),
    }
    return own | {name: text[:LONGEST_ATTRIBUTE] for name, text in canonical.items() if text}


def _items(row: Row, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the items of the first cell that says something: a list as Python writes it, or divided by > or commas."""
    for column in columns:
        text = _said(row.get(column))
        if text is None:
            continue
        if text[0] in "[(":
            items = texts(text, f"{row.where}:{column}")
        else:
            items = tuple(_STEPS.split(text)) if _STEPS.search(text) else tuple(text.split(","))
        return tuple(item for part in items if (item := _said(part)))
    return ()


def _years(text: str | None) -> str | None:
    """Return an age in years.

    >>> _years("45"), _years("30-year-old"), _years("6 months"), _years("child")
    ('45', '30', '0.5', None)
    """
    if text is None:
        return None
    months, years = _MONTHS.fullmatch(text), _AGE.fullmatch(text)
    if months:
        return f"{int(months[1]) / 12:.2g}"
    value = number(years[1]) if years else None
    return None if value is None or value > 120 else f"{value:g}"


def _sex(text: str | None) -> str | None:
    word = (text or "").casefold()
    word = _SEXES.get(word, word)
    return word if word in ("male", "female") else None


def _licence(row: Row, is_agent: bool, is_rewritten: bool) -> str:
    own = first_said(row, LICENCES) or ("CC BY-NC-ND 4.0" if is_agent else "CC BY-NC 4.0")
    return f"{own[:150]}; caption rewritten by an agent" if is_rewritten else own[:200]
