"""SkinCon: 48 clinical concepts for photos of Fitzpatrick17k and DDI (arXiv 2302.00785).

Its tables hold no labels. Where fitzpatrick17k.csv or ddi_metadata.csv lies below the same folder, label, classes and
skin type of a photo are joined by its name; `--source skincon` says that the concepts are wanted then.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from magic_cli.data.issues import IssueLog
from magic_cli.data.names import key_of
from magic_cli.data.sources.cells import flag, image_id_of
from magic_cli.data.sources.clinical import ddi, fitzpatrick17k
from magic_cli.data.sources.clinical.cases import no_table, own_columns, photos_of, table_named
from magic_cli.data.sources.csv_rows import CsvTable, Row, note_unknown, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.source import CONCEPTS as SEEN
from magic_cli.data.sources.source import RawCase, RawDataset, ReadOptions, Source
from magic_cli.errors import problem
from magic_cli.records import Case

CONCEPTS = (
    *("Vesicle", "Papule", "Macule", "Plaque", "Abscess", "Pustule", "Bulla", "Patch", "Nodule", "Ulcer", "Crust"),
    *("Erosion", "Excoriation", "Atrophy", "Exudate", "Purpura/Petechiae", "Fissure", "Induration", "Xerosis"),
    *("Telangiectasia", "Scale", "Scar", "Friable", "Sclerosis", "Pedunculated", "Exophytic/Fungating"),
    *("Warty/Papillomatous", "Dome-shaped", "Flat topped", "Brown(Hyperpigmentation)", "Translucent"),
    *("White(Hypopigmentation)", "Purple", "Yellow", "Black", "Erythema", "Comedo", "Lichenification", "Blue"),
    *("Umbilicated", "Poikiloderma", "Salmon", "Wheal", "Acuminate", "Burrow", "Gray", "Pigmented", "Cyst"),
)

DROPPED = "Do not consider this image"

_MARKS = ("ImageID", "Papule", "Plaque")  # also of the meta.csv of MAKE, which has 32 of the concepts

_KNOWN = frozenset({"", "Unnamed: 0", "ImageID", DROPPED, *CONCEPTS})


class Labels(NamedTuple):
    """What another dataset says about a photo: its label, None if it is wrong or missing, and attributes."""

    label: str | None
    attributes: Mapping[str, str]
    licence: str


NO_LABELS = Labels(None, {}, "")


class SkinCon(Source):
    """SkinCon: a case is a photo."""

    name = "skincon"
    title = "SkinCon"
    origin = "https://skincon-dataset.github.io/"
    licence = "as the photos: Fitzpatrick17k CC BY-NC-SA 3.0, DDI research use"
    expected = "annotations_fitzpatrick17k.csv or annotations_ddi.csv; the photos; fitzpatrick17k.csv for the labels"

    def find(self, files: SourceFiles) -> str:
        """Return the table with photos and concepts."""
        return next(iter(tables_with(files, *_MARKS)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the photos of all tables of annotations.

        Raises:
            DataError: no such table.
        """
        tables = [open_csv(path, files) for path in tables_with(files, *_MARKS)]
        if not tables:
            raise no_table(files, "annotations_fitzpatrick17k.csv or annotations_ddi.csv", *_MARKS)
        for table in tables:
            note_unknown(table, _KNOWN, files.issues)
        labels, used = _labels(files)
        inputs = files.digests(*(table.path for table in tables), *used)
        return RawDataset(self.name, files.root, _cases(tables, labels, files), files.issues, inputs)


SOURCE = SkinCon()


def concepts_of(row: Row) -> dict[str, str]:
    """Return a row's concepts, "1" or "0" by column, and those that are seen as one attribute.

    A cell that says neither is absent, and so is the attribute where no concept was asked for.
    """
    flags = {name: value for name in CONCEPTS if (value := flag(row.cells.get(name))) is not None}
    if not flags:
        return {}
    seen = "; ".join(name for name, value in flags.items() if value)
    return {**{name: "1" if value else "0" for name, value in flags.items()}, SEEN: seen}


def is_dropped(row: Row, files: SourceFiles) -> bool:
    """Return whether the annotators say not to use a photo, which is a loss that is listed."""
    if not flag(row.get(DROPPED)):
        return False
    line = problem(row.where, f"'{DROPPED}' = 1", "0", "left out, as the annotators say")
    files.issues.add_loss(line, "cases")
    return True


def _labels(files: SourceFiles) -> tuple[dict[str, Labels], list[str]]:
    """Return the labels of photos by name, and the tables that they are from."""
    labels: dict[str, Labels] = {}
    used = []
    issues = IssueLog()
    path = table_named(files, "fitzpatrick17k.csv", *fitzpatrick17k.MARKS)
    if path:
        used.append(path)
        for row in open_csv(path, files).rows(issues):
            key = key_of(image_id_of(row.get("md5hash") or ""))
            if not fitzpatrick17k.is_wrongly_labelled(row):
                labels[key] = Labels(*fitzpatrick17k.label_and_attributes(row), fitzpatrick17k.LICENCE)
    path = table_named(files, "ddi_metadata.csv", *ddi.MARKS)
    if path:
        used.append(path)
        for row in open_csv(path, files).rows(issues):
            key = key_of(image_id_of(row.get("DDI_file") or ""))
            labels[key] = Labels(*ddi.label_and_attributes(row), ddi.LICENCE)
    for line in issues.problems:
        files.issues.add_loss(line)
    return labels, used


def _cases(tables: Sequence[CsvTable], labels: Mapping[str, Labels], files: SourceFiles) -> Iterator[RawCase]:
    unlabelled = 0
    for table in tables:
        for row in table.rows(files.issues):
            image_ids, photos = photos_of(files, [row.get("ImageID")])
            if not image_ids:
                line = problem(row.where, "no ImageID", "the name of its photo", "complete the row; left out")
                files.issues.add_loss(line, "cases")
                continue
            if is_dropped(row, files):
                continue
            found = labels.get(key_of(image_ids[0]), NO_LABELS)
            unlabelled += found.label is None
            case = Case(
                case_id=image_ids[0],
                split="",
                image_ids=image_ids,
                label=found.label,
                attributes={**own_columns(row, ["ImageID"]), **found.attributes, **concepts_of(row)},
                licence=found.licence or SkinCon.licence,
            )
            yield RawCase(case, photos, row.where)
    if labels and unlabelled:
        reason = "their photos are in no table of labels, or are labelled wrongly there (qc 3)"
        files.issues.note(f"cases without label: {unlabelled:,}; {reason}")
