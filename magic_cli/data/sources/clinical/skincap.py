"""SkinCAP: 4,000 photos of Fitzpatrick17k and DDI with captions in Chinese and English (arXiv 2405.18004).

The captions end in the diagnosis: they are texts of the role "raw", which no query is built from without a guard.
"""

from collections.abc import Iterator

from magic_cli.data.sources.clinical.cases import no_table, own_columns, photos_of
from magic_cli.data.sources.clinical.skincon import CONCEPTS, DROPPED, concepts_of, is_dropped
from magic_cli.data.sources.csv_rows import CsvTable, Row, note_unknown, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.source import (
    LABEL_PATH,
    RAW,
    RawCase,
    RawDataset,
    ReadOptions,
    Source,
)
from magic_cli.data.sources.source import (
    SOURCE as COLLECTION,
)
from magic_cli.errors import problem
from magic_cli.records import Case

_PATHS = ("skincap_file_path", "filename", "ori_file_path")  # the second as MAKE's copy spells the first

_ENGLISH = ("caption_zh_polish_en",)

_CHINESE = ("caption_zh_polish", "caption_zh")

_OTHERS = ("id", "disease", "source", "remark")

_KNOWN = frozenset({"", "Unnamed: 0", DROPPED, *_OTHERS, *_PATHS, *_ENGLISH, *_CHINESE, *CONCEPTS})


class SkinCap(Source):
    """SkinCAP: a case is a photo with its caption."""

    name = "skincap"
    title = "SkinCAP"
    origin = "https://huggingface.co/datasets/joshuachou/SkinCAP"
    licence = "CC BY-NC-SA 4.0"
    expected = "skincap_v240623.csv; the folder of photos 1.png, 2.png, ..."

    def find(self, files: SourceFiles) -> str:
        """Return the table with captions in Chinese, or translated from them, and paths of photos."""
        return next(iter(_tables(files)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the dataset.

        Raises:
            DataError: no such table.
        """
        path = self.find(files)
        if not path:
            raise no_table(files, "skincap_v240623.csv", _PATHS[0], *_ENGLISH)
        table = open_csv(path, files)
        note_unknown(table, _KNOWN, files.issues)
        return RawDataset(self.name, files.root, _cases(table, files), files.issues, files.digests(table.path))


SOURCE = SkinCap()


def _tables(files: SourceFiles) -> list[str]:
    named = {path for column in _PATHS for path in tables_with(files, column)}
    captions = dict.fromkeys(path for column in (*_ENGLISH, *_CHINESE) for path in tables_with(files, column))
    return [path for path in captions if path in named]


def _cases(table: CsvTable, files: SourceFiles) -> Iterator[RawCase]:
    for row in table.rows(files.issues):
        image_ids, photos = photos_of(files, [_first(row, _PATHS)])
        if not image_ids:
            line = problem(row.where, "no skincap_file_path", "the path of its photo", "complete the row; left out")
            files.issues.add_loss(line, "cases")
            continue
        if is_dropped(row, files):
            continue
        label = row.get("disease")
        captions = {"en": _first(row, _ENGLISH), "zh": _first(row, _CHINESE)}
        texts = {language: text for language, text in captions.items() if text}
        attributes = {**own_columns(row, (*_OTHERS, *_PATHS)), **concepts_of(row)}
        if collection := row.get("source"):
            attributes[COLLECTION] = collection
        if label:
            attributes[LABEL_PATH] = label
        case = Case(
            case_id=row.get("id") or image_ids[0],
            split="",
            image_ids=image_ids,
            texts={RAW: texts} if texts else {},
            label=label,
            attributes=attributes,
            licence=SkinCap.licence,
        )
        yield RawCase(case, photos, row.where)


def _first(row: Row, columns: tuple[str, ...]) -> str | None:
    return next((text for column in columns if (text := row.get(column))), None)
