"""The adapter of the MEDIQA-MAGIC challenge's folder."""

from collections.abc import Iterator
from pathlib import Path

from magic_cli.data.names import TABLE_SUFFIXES
from magic_cli.data.sources.dermavqa.reader import Challenge, open_challenge
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.source import RawCase, RawDataset, RawPhoto, ReadOptions, Source
from magic_cli.errors import DataError
from magic_cli.io.regular_file import open_regular

_HEAD = 1 << 20  # bytes in which the first row of a table begins and names its encounter


class DermaVqa(Source):
    """DermaVQA as MEDIQA-MAGIC 2025 distributes it: encounters in JSON tables, photos, annotators' masks, answers."""

    name = "dermavqa"
    title = "DermaVQA, MEDIQA-MAGIC 2025"
    origin = "https://osf.io/72rp3/"
    licence = "CC BY 4.0"
    expected = "train.json, valid.json or test.json with encounter_id; photos; IMG_*_mask_ann*.tiff; *_cvqa.json"

    def find(self, files: SourceFiles) -> str:
        """Return the first JSON table that speaks of encounters."""
        tables = (path for path in files.tables if Path(path).suffix.casefold() in TABLE_SUFFIXES)
        return next((path for path in tables if _has_encounters(path)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:
        """Return the dataset; the challenge's reader looks for its files itself.

        Raises:
            DataError: no encounters, or a damaged definitions file.
        """
        challenge = open_challenge(files.root, options.prompt, options.responses)
        return RawDataset(
            source=self.name,
            root=challenge.root,
            cases=_cases(challenge),
            issues=challenge.issues,
            inputs=challenge.inputs,
            questions=challenge.questions,
            total=len(challenge.cases),
            is_challenge=True,
        )


SOURCE = DermaVqa()


def _has_encounters(path: str) -> bool:
    try:
        with open_regular(path) as file:
            return b"encounter_id" in file.read(_HEAD)
    except (OSError, DataError):
        return False


def _cases(challenge: Challenge) -> Iterator[RawCase]:
    """Yield the cases and forget them: their texts take half of the memory."""
    for case_id in list(challenge.cases):
        case = challenge.cases.pop(case_id)
        photos = tuple(
            RawPhoto(image_id, challenge.photos[image_id], dict(challenge.masks.get(image_id, {})))
            for image_id in case.image_ids
            if image_id in challenge.photos
        )
        yield RawCase(case, photos)
