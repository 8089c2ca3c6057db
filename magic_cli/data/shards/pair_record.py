"""What a pair says besides its photo: the columns of a JSON object or of a row, in the names that releases use.

MAKE's columns are read as in its CSV (data/sources/derm1m.py): caption, truncated_caption, ontology_caption,
visual_concept_caption, subcaption_1 to subcaption_8, knowledge_masks, sub_caption_mask, as texts or as JSON lists. The
form {"texts": {"raw", "disease", "concept"}, "subtexts": [...], "attributes": {...}} is read, too, which `magic prepare
--shards` writes. No cell is evaluated.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from magic_cli.data.prompts import replace_surrogates
from magic_cli.data.sources.cells import literal
from magic_cli.data.sources.csv_rows import Row
from magic_cli.data.sources.derm1m import LABELS, LICENCES, ROLES, SUBTEXTS, attributes_of, first_said, texts_of
from magic_cli.data.sources.source import LONGEST_ATTRIBUTE
from magic_cli.data.texts.captions import SUBTEXT
from magic_cli.errors import DataError, problem

LONGEST = 1 << 22  # bytes of a text or of a JSON object

GROUPS = ("group", "group_id", "patient_id", "patient")

_COLUMN_OF = {role: column for column, role in ROLES.items()}

_TEXTS = frozenset(  # columns that say nothing besides texts, label, group and licence
    {*_COLUMN_OF.values(), *SUBTEXTS, *GROUPS, "truncated_caption", "knowledge_masks", "sub_caption_mask", "label"}
)


@dataclass(frozen=True, slots=True)
class PairRecord:
    """The texts of a pair by role, and what is known of its case; "" and None for what is not.

    `has_knowledge`: the source brings disease or concept texts of its own, so that a missing one means none.
    """

    texts: Mapping[str, str]
    label: str | None = None
    group: str = ""
    case_id: str = ""
    licence: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    has_knowledge: bool = False

    @property
    def is_pair(self) -> bool:
        """Whether it says anything that a photo can be paired with."""
        return any(role in _COLUMN_OF or role.startswith(SUBTEXT) for role in self.texts)


def parse_pair(caption: bytes | None, meta: bytes | None, where: str) -> PairRecord:
    """Return what the text file and the JSON file of a pair say; the text file is the caption if both have one.

    Raises:
        DataError: the JSON file is damaged, or a mask or list in it; one line.
    """
    cells: Mapping[str, object] = {}
    if meta is not None:
        try:
            parsed = json.loads(meta)
        except (ValueError, RecursionError):
            raise DataError(problem(where, "damaged JSON", "a JSON object", "write the shard again")) from None
        if not isinstance(parsed, dict):
            raise DataError(problem(where, "JSON of another kind", "a JSON object", "write the shard again"))
        cells = parsed
    text = None if caption is None else caption.decode("utf-8-sig", "replace").strip()
    return pair_record(cells, text, where)


def pair_record(cells: Mapping[str, object], caption: str | None, where: str) -> PairRecord:
    """Return what columns say: texts, numbers, lists and objects by name.

    Args:
        cells: the columns.
        caption: the caption where it stands elsewhere; None or "" for the column's.
        where: for messages.

    Raises:
        DataError: a mask or list is damaged; one line.
    """
    given = cells.get("texts")
    named: Mapping[str, object] = given if isinstance(given, dict) else {}
    columns = {name: _cell(value) for name, value in cells.items()}
    columns |= {_COLUMN_OF[role]: _cell(text) for role, text in named.items() if role in _COLUMN_OF}
    row = Row(columns | ({"caption": caption} if caption else {}), where)
    texts = texts_of(row, _subcaptions(row))
    listed = cells.get("subtexts")
    if isinstance(listed, list) and not any(role.startswith(SUBTEXT) for role in texts):
        texts |= {f"{SUBTEXT}{n}": item for n, item in enumerate(filter(None, map(_cell, listed)), 1)}
    return PairRecord(
        texts={role: replace_surrogates(text) for role, text in texts.items()},
        label=first_said(row, ("label", *LABELS)),
        group=first_said(row, GROUPS) or "",
        case_id=row.get("case_id") or "",
        licence=(first_said(row, LICENCES) or "")[:200],
        attributes={} if cells.keys() <= _TEXTS else {**attributes_of(row), **_attributes(cells.get("attributes"))},
        has_knowledge=any(column in row.cells for column in ("ontology_caption", "visual_concept_caption")),
    )


def _attributes(given: object) -> dict[str, str]:
    items = given.items() if isinstance(given, dict) else ()
    return {str(name): _cell(value)[:LONGEST_ATTRIBUTE] for name, value in items if value is not None}


def _subcaptions(row: Row) -> tuple[str, ...]:
    """Return the columns that `sub_caption_mask` is about: as many as it has items, else those that are there."""
    mask = literal(row.get("sub_caption_mask"), f"{row.where}:sub_caption_mask")
    if isinstance(mask, list | tuple) and 0 < len(mask) <= len(SUBTEXTS):
        return SUBTEXTS[: len(mask)]
    return tuple(column for column in SUBTEXTS if column in row.cells)


def _cell(value: object) -> str:
    """Return a value as a CSV has it; "" for null."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=str)
