"""Raw datasets: one folder or module per source, all read into one prepared format."""

from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path, PurePath

from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.sources.dermavqa.scan import is_challenge_photo
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.generic.join import join
from magic_cli.data.sources.generic.suggestions import suggestions
from magic_cli.data.sources.source import RawDataset, ReadOptions, Source
from magic_cli.errors import ConfigError, DataError, did_you_mean, problem, shorten

# --source NAME to the module below this package that has `SOURCE`, in the order of --list-sources
ADAPTERS = {
    "dermavqa": "dermavqa.source",
    "derm1m": "derm1m",
    "isic-challenge": "isic.challenge",
    "isic-archive": "isic.archive",
    "ham10000": "isic.ham10000",
    "milk10k": "isic.milk10k",
    "pad-ufes-20": "clinical.pad_ufes20",
    "derm7pt": "clinical.derm7pt",
    "scin": "clinical.scin",
    "fitzpatrick17k": "clinical.fitzpatrick17k",
    "ddi": "clinical.ddi",
    "skincon": "clinical.skincon",
    "skincap": "clinical.skincap",
    "dermamnist": "dermamnist",
    "dermasynth": "dermasynth",
    "mm-skin": "mm_skin",
    "coco": "annotations.coco",
    "labelme": "annotations.labelme",
    "cvat": "annotations.cvat",
    "label-studio": "annotations.label_studio",
    "via": "annotations.via",
    "mask-pairs": "annotations.mask_pairs",
    "cases": "generic.cases_jsonl",
    "csv": "generic.csv_map",
}

_SHEETS = {".xlsx", ".xls", ".ods", ".parquet", ".feather"}  # tables that people have, and that are not read


@cache
def adapter(name: str) -> Source:
    """Return the adapter of a name.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in ADAPTERS:
        start = did_you_mean(name, ADAPTERS, "choose one of these;")
        remedy = f"{start} `magic prepare --list-sources` describes them"
        raise ConfigError(problem("--source", name, shorten(list(ADAPTERS), 40), remedy))
    source: Source = import_module(f"{__name__}.{ADAPTERS[name]}").SOURCE
    return source


def sources() -> list[Source]:
    """Return all adapters, in the order of `--list-sources`."""
    return [adapter(name) for name in ADAPTERS]


def recognize(files: SourceFiles) -> Source | None:
    """Return the adapter of the dataset below a folder, None where none recognizes it.

    Adapters that are a fallback are asked where no other recognizes it.

    Raises:
        DataError: several adapters recognize it.
    """
    evidence = _evidence(files, is_fallback=False) or _evidence(files, is_fallback=True)
    if len(evidence) > 1:
        got = ", ".join(f"{name} ({files.name(path)})" for name, path in evidence.items())
        raise DataError(problem(files.root, f"several datasets: {got}", "one", "choose with --source NAME"))
    return adapter(next(iter(evidence))) if evidence else None


def _evidence(files: SourceFiles, is_fallback: bool) -> dict[str, str]:
    """Return the adapters that recognize a dataset, with the file by which they do."""
    asked = (name for name in ADAPTERS if adapter(name).is_fallback is is_fallback)
    return {name: path for name in asked if (path := adapter(name).find(files))}


def open_source(root: Path, options: ReadOptions, name: str = "") -> RawDataset:
    """Find out what dataset is below a folder, unless `name` or a mapping says so, and open it.

    A mapping describes the dataset's table; with `options.join` and without an image, it describes the table to join.

    Raises:
        DataError: nothing that is known is there, or its tables cannot be read.
        ConfigError: an unknown name, or a mapping that does not fit.
    """
    issues = IssueLog()
    is_of_join = bool(options.join) and name != "csv" and not {"image", "table"} & options.mapping.keys()
    if options.mapping and not is_of_join and name not in ("", "csv"):
        expected = "--map for --source csv, or for a table to --join"
        raise ConfigError(problem("--map", f"it with --source {name}", expected, "leave one of them out"))
    chosen = adapter(name or "csv") if name or (options.mapping and not is_of_join) else None
    files = SourceFiles(root, issues)
    source = chosen or recognize(files)
    if source is None:
        return _unknown(files, options)
    dataset = replace(source.read(files, options), archives=tuple(map(files.name, files.archives)))
    if not dataset.is_challenge:
        _note_archives(dataset)
    if source.is_fallback and not chosen:
        for line in suggestions(files):
            issues.note(f"a table is not read; {line}")
    if options.join:
        return join(dataset, Path(options.join), options.mapping if is_of_join else {}, files)
    return dataset


def _unknown(files: SourceFiles, options: ReadOptions) -> RawDataset:
    """Return the dataset of a folder that no adapter knows if the challenge's can read it; it says why it cannot.

    Raises:
        DataError: it cannot; with the columns of tables that `--map` may name.
    """
    try:
        return adapter("dermavqa").read(files, options)
    except DataError as error:
        tables = suggestions(files)
        is_other = not files.archives and not any("encounter_id" in line for line in tables)
        line = _why_unknown(files, bool(tables), len(error.problems) > 1) if is_other else ""
        others = (
            "`magic prepare --list-sources` names the datasets that are known; any table is read with --map, "
            "photos with masks beside them with --source mask-pairs"
        )
        raise DataError([*([line] if line else [*error.problems, others]), *tables]) from None


def _why_unknown(files: SourceFiles, has_tables: bool, is_damaged: bool) -> str:
    """Return what is wrong with a folder that no adapter knows; "" where the challenge's adapter says it better."""
    expected = "one of `magic prepare --list-sources`, or any table with --map"
    sheets = [path for path in files.tables if PurePath(path).suffix.casefold() in _SHEETS]
    if has_tables:
        return problem(files.root, "no dataset that is known", expected, "say with --map which column is what")
    if is_damaged or any(map(is_challenge_photo, files.photos())):
        return ""
    if sheets:
        return problem(files.name(sheets[0]), "a workbook or binary table", "CSV or JSON", "export it as CSV")
    if files.tables:
        return ""
    if files.photo_count:
        got = counted(files.photo_count, "photo and no table", "photos and no table")
        return problem(files.root, got, expected, "add the table, or take photos alone with --source mask-pairs")
    return problem(files.root, "no file", expected, "check --data")


def _note_archives(dataset: RawDataset) -> None:
    """Note archives that are still packed: photos may be in them."""
    if dataset.archives:
        archives = counted(len(dataset.archives), "archive is", "archives are")
        names = shorten(dataset.archives, 5)
        dataset.issues.note(f"{archives} not read ({names}); unpack what photos are missing from")
