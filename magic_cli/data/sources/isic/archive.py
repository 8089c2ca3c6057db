"""An export of the ISIC archive: a metadata table whose columns depend on the query, and the photos beside it."""

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from magic_cli.data.issues import counted
from magic_cli.data.names import is_for_masks, key_of
from magic_cli.data.sources.cells import image_id_of
from magic_cli.data.sources.csv_rows import CsvTable, Row, columns_of, note_unknown, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.isic.facts import facts, stated
from magic_cli.data.sources.isic.milk10k import MILK_COLUMNS
from magic_cli.data.sources.source import (
    LABEL_PATH,
    LESION,
    PATIENT,
    RawCase,
    RawDataset,
    RawPhoto,
    ReadOptions,
    Source,
)
from magic_cli.data.sources.source import SOURCE as COLLECTION
from magic_cli.errors import DataError, problem
from magic_cli.records import Case

_LEVELS = tuple(f"diagnosis_{level}" for level in range(1, 6))

_LEVELS_2024 = tuple(f"iddx_{level}" for level in range(1, 6))  # the challenge of 2024 (SLICE-3D)

_OLD_LEVELS = ("benign_malignant", "diagnosis")  # before 2025

_EVIDENCE = ("copyright_license", "attribution", *_LEVELS, *_OLD_LEVELS)

# fields of isic_metadata 4.12, and those of older exports
_ABOUT = (
    *("attribution", "copyright_license", "age_approx", "sex", "anatom_site_general", "anatom_site_special"),
    *(f"anatom_site_{level}" for level in range(1, 6)),
    *_LEVELS,
    *_LEVELS_2024,
    *_OLD_LEVELS,
    *("diagnosis_confirm_type", "image_type", "dermoscopic_type", "image_manipulation", "lesion_id", "patient_id"),
    *("fitzpatrick_skin_type", "melanocytic", "nevus_type", "mel_class", "mel_mitotic_index", "mel_thick_mm"),
    *("mel_type", "mel_ulcer", "family_hx_mm", "personal_hx_mm", "clin_size_long_diam_mm", "concomitant_biopsy"),
    *("acquisition_day", "blurry", "color_tint", "hairy", "marker_pen", "tbp_tile_type", "rcm_case_id"),
)


class IsicArchive(Source):
    """What `isic metadata download` and `isic image download`, or the archive's website, give for a query."""

    name = "isic-archive"
    title = "ISIC archive, any export"
    origin = "https://www.isic-archive.com"
    licence = "per image: CC0, CC BY or CC BY-NC 4.0"
    expected = "a CSV with isic_id, copyright_license and any other fields; ISIC_*.jpg"

    def find(self, files: SourceFiles) -> str:
        """Return the first table with isic_id and a field that exports have, MILK10k's excepted."""
        return next(iter(_paths(files)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the dataset; several exports are read as one.

        Raises:
            DataError: no export, or a damaged one.
        """
        tables = [open_csv(path, files) for path in _paths(files)]
        if not tables:
            got, expected = "no export of the ISIC archive", "a CSV with isic_id and copyright_license"
            raise DataError(problem(files.root, got, expected, "check --data and --source"))
        inputs = files.digests(*(table.path for table in tables))
        return RawDataset(self.name, files.root, _cases(files, tables), files.issues, inputs)


SOURCE = IsicArchive()


def _paths(files: SourceFiles) -> list[str]:
    others = tables_with(files, *MILK_COLUMNS)
    paths = [path for path in tables_with(files, "isic_id") if path not in others]
    return [path for path in paths if any(column in _EVIDENCE for column in columns_of(path))]


def _cases(files: SourceFiles, tables: Sequence[CsvTable]) -> Iterator[RawCase]:
    """Yield a case for each image; exports of several collections share images, of which the first row counts."""
    labels: dict[str, str | None] = {}
    again = conflicts = 0
    has_masks = _has_masks(files)
    for table in tables:
        note_unknown(table, frozenset(("isic_id", *_ABOUT)), files.issues)
        for row in table.rows(files.issues):
            written = row.get("isic_id")
            if written is None:
                files.issues.add_loss(problem(row.where, "no isic_id", "ISIC_ and a number", "complete it"), "cases")
                continue
            raw = _case(row, image_id_of(written), files, has_masks)
            key = key_of(written)
            if key in labels:
                again += 1
                if raw.case.label != labels[key]:
                    conflicts += 1
                continue
            labels[key] = raw.case.label
            yield raw
    if again:
        rows = counted(again, "row is of an image", "rows are of images")
        other = f"; {counted(conflicts, 'has', 'have')} another diagnosis" if conflicts else ""
        files.issues.note(f"{rows} that came before, as collections overlap: the first is used{other}")


def _has_masks(files: SourceFiles) -> bool:
    """Return whether a folder is named as one of masks: looking for each mask by name takes memory."""
    return any(is_for_masks(PurePath(folder).parts) for folder in files.folders())


def _case(row: Row, image_id: str, files: SourceFiles, has_masks: bool) -> RawCase:
    attributes = facts(row, _ABOUT)
    levels = _levels(row)
    if levels:
        attributes[LABEL_PATH] = " > ".join(levels)
    if "attribution" in attributes:
        attributes[COLLECTION] = attributes["attribution"]
    case = Case(
        image_id,
        "",
        (image_id,),
        label=levels[-1] if levels else None,
        attributes=attributes,
        group_id=attributes.get(PATIENT) or attributes.get(LESION, ""),
        licence=row.get("copyright_license") or "",
    )
    photo = files.photo(f"{image_id}.jpg")
    mask = files.photo(f"{image_id}_segmentation.png") if has_masks else ""
    masks = {"ann0": mask} if mask else {}
    return RawCase(case, (RawPhoto(image_id, photo, masks),) if photo else (), row.where)


def _levels(row: Row) -> list[str]:
    """Return the classes from the widest to the narrowest."""
    for columns in (_LEVELS, _LEVELS_2024, _OLD_LEVELS):
        levels = [value for column in columns if (value := stated(row, column)) is not None]
        if levels:
            return levels
    return []
