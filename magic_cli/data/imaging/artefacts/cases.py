"""The artefacts of photos and of cases of a prepared dataset, measured when they are asked for; nothing is stored."""

from collections.abc import Iterable

from magic_cli.data.imaging.artefacts.detect import SIDE, measured
from magic_cli.data.imaging.images import open_record
from magic_cli.data.prepared import Prepared
from magic_cli.errors import DataError
from magic_cli.io.progress import log, track
from magic_cli.records import ImageRecord


def artefacts_of(records: Iterable[ImageRecord]) -> dict[str, frozenset[str]]:
    """Return the artefacts of photos, by image id; one that cannot be read is left out, and told on stderr."""
    found: dict[str, frozenset[str]] = {}
    for record in track([record for record in records if record.path is not None], "artefacts"):
        try:
            found[record.image_id] = measured(open_record(record, at_least=SIDE)).found
        except DataError as error:
            log(f"artefacts of {record.image_id} are not known: {error}")
    return found


def artefacts_by_case(prepared: Prepared, split: str) -> dict[str, frozenset[str]]:
    """Return the artefacts on any photo of each case of a split; cases without a readable photo are left out."""
    records = prepared.images_of(split)
    seen, found = artefacts_of(records), dict[str, frozenset[str]]()
    for record in records:
        if record.image_id in seen:
            found[record.case_id] = found.get(record.case_id, frozenset()) | seen[record.image_id]
    return found
