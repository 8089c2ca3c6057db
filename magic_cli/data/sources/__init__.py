"""Raw datasets: one folder or module per source, all read into one prepared format."""

from functools import cache
from importlib import import_module
from pathlib import Path

from magic_cli.data.issues import IssueLog
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.source import RawDataset, ReadOptions, Source
from magic_cli.errors import ConfigError, DataError, problem, shorten

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
}


@cache
def adapter(name: str) -> Source:
    """Return the adapter of a name.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in ADAPTERS:
        remedy = "choose one of these; `magic prepare --list-sources` describes them"
        raise ConfigError(problem("--source", name, shorten(list(ADAPTERS), 40), remedy))
    source: Source = import_module(f"{__name__}.{ADAPTERS[name]}").SOURCE
    return source


def recognize(files: SourceFiles) -> Source:
    """Return the adapter of the dataset below a folder; the challenge's where none recognizes it, as it says why.

    Adapters that are a fallback are asked where no other recognizes it.

    Raises:
        DataError: several adapters recognize it.
    """
    evidence = _evidence(files, is_fallback=False) or _evidence(files, is_fallback=True)
    if len(evidence) > 1:
        got = ", ".join(f"{name} ({files.name(path)})" for name, path in evidence.items())
        raise DataError(problem(files.root, f"several datasets: {got}", "one", "choose with --source"))
    return adapter(next(iter(evidence), "dermavqa"))


def _evidence(files: SourceFiles, is_fallback: bool) -> dict[str, str]:
    """Return the adapters that recognize a dataset, with the file by which they do."""
    asked = (name for name in ADAPTERS if adapter(name).is_fallback is is_fallback)
    return {name: path for name in asked if (path := adapter(name).find(files))}


def open_source(root: Path, options: ReadOptions, name: str = "") -> RawDataset:
    """Find out what dataset is below a folder, unless `name` says so, and open it.

    Raises:
        DataError: nothing that is known is there, or its tables cannot be read.
        ConfigError: an unknown name.
    """
    issues = IssueLog()
    chosen = adapter(name) if name else None
    files = SourceFiles(root, issues)
    return (chosen or recognize(files)).read(files, options)
