"""HAM10000 as Kaggle and the Harvard Dataverse distribute it, with or without its lesion masks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from magic_cli.data.issues import counted
from magic_cli.data.names import key_of
from magic_cli.data.sources.cells import image_id_of
from magic_cli.data.sources.csv_rows import CsvTable, Row, note_unknown, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles, innermost_split
from magic_cli.data.sources.isic.classes import DIAGNOSES
from magic_cli.data.sources.isic.facts import facts, stated
from magic_cli.data.sources.source import LABEL_PATH, RawCase, RawDataset, RawPhoto, ReadOptions, Source
from magic_cli.data.sources.source import SOURCE as COLLECTION
from magic_cli.errors import DataError, problem, redact_key, shorten
from magic_cli.records import Case

_COLUMNS = ("lesion_id", "image_id", "dx")

_ABOUT = ("lesion_id", "dx_type", "age", "sex", "localization", "dataset")


class Ham10000(Source):
    """HAM10000: 10,015 dermoscopic photos of 7,470 lesions in seven classes; the training part of ISIC 2018, task 3."""

    name = "ham10000"
    title = "HAM10000"
    origin = "https://doi.org/10.7910/DVN/DBW86T"
    licence = "CC BY-NC 4.0"
    expected = "HAM10000_metadata, with or without .csv or .tab; ISIC_*.jpg; ISIC_*_segmentation.png"

    def find(self, files: SourceFiles) -> str:
        """Return the first table with lesion_id, image_id and dx, whatever its name."""
        return next(iter(tables_with(files, *_COLUMNS)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the dataset; a second table, of the test part of ISIC 2018, gives its images the split test.

        Raises:
            DataError: no table of HAM10000, or a damaged one.
        """
        tables = _tables(files)
        if not tables:
            got, expected = "no table of HAM10000", "columns lesion_id, image_id, dx"
            raise DataError(problem(files.root, got, expected, "check --data and --source"))
        parts = {table.path: innermost_split(table.name) for table in tables}
        if {"valid", "test"} & set(parts.values()):
            parts = {path: part or "train" for path, part in parts.items()}
        else:
            parts = dict.fromkeys(parts, "")
            files.issues.note("all images are of the training part of ISIC 2018, task 3; the other parts are not here")
        return RawDataset(self.name, files.root, _cases(files, tables, parts), files.issues, files.digests(*parts))


SOURCE = Ham10000()


def _tables(files: SourceFiles) -> list[CsvTable]:
    """Return the tables, those with most columns first: the Dataverse's says more than Kaggle's."""
    tables = [open_csv(path, files) for path in tables_with(files, *_COLUMNS)]
    return sorted(tables, key=lambda table: (-len(table.columns), table.name))


def _cases(files: SourceFiles, tables: Sequence[CsvTable], parts: Mapping[str, str]) -> Iterator[RawCase]:
    seen: set[str] = set()
    again, other = 0, Counter[str]()
    for table in tables:
        note_unknown(table, frozenset((*_COLUMNS, *_ABOUT)), files.issues)
        here: set[str] = set()
        for row in table.rows(files.issues):
            key = key_of(row.get("image_id") or "")
            if key and key in seen and key not in here:
                again += 1
                continue
            if not key or key in here:
                got, remedy = (f"{redact_key(key)} twice", "remove one row") if key else ("no image_id", "complete it")
                files.issues.add_loss(problem(row.where, got, "each image once, by its image_id", remedy), "cases")
                continue
            seen.add(key)
            here.add(key)
            case = _case(row, files, parts[table.path])
            if case.case.label is not None and LABEL_PATH not in case.case.attributes:
                other[case.case.label] += 1
            yield case
    if again:
        rows = counted(again, "row is of an image", "rows are of images")
        files.issues.note(f"{rows} that another table has: the one with most columns is used")
    if other:
        rows = counted(other.total(), "row has", "rows have")
        files.issues.note(f"{rows} another dx than the seven of HAM10000: {shorten(sorted(other))}")


def _case(row: Row, files: SourceFiles, split: str) -> RawCase:
    image_id = image_id_of(row.get("image_id") or "")
    attributes, label = facts(row, _ABOUT), stated(row, "dx")
    path = DIAGNOSES.get((label or "").upper(), "")
    if path:
        attributes[LABEL_PATH] = path
    if "dataset" in attributes:
        attributes[COLLECTION] = attributes["dataset"]
    lesion = attributes.get("lesion_id", "")
    case = Case(
        image_id,
        split,
        (image_id,),
        label=label,
        attributes=attributes,
        group_id=lesion,
        licence=Ham10000.licence,
    )
    photo, mask = files.photo(f"{image_id}.jpg"), files.photo(f"{image_id}_segmentation.png")
    masks = {"ann0": mask} if mask else {}
    return RawCase(case, (RawPhoto(image_id, photo, masks),) if photo else (), row.where)
