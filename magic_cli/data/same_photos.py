"""Photos with the same bytes under several ids: what is scored must not be trained on."""

from collections.abc import Iterable

from magic_cli.data.issues import IssueLog
from magic_cli.errors import problem, shorten
from magic_cli.records import SPLITS, ImageRecord

_MOST = 5  # pairs that are named


def list_same_photos(images: Iterable[ImageRecord], issues: IssueLog) -> None:
    """List photos of equal SHA-256: in two splits as a problem, in two cases of one split as a note."""
    by_hash: dict[str, list[ImageRecord]] = {}
    for image in images:
        by_hash.setdefault(image.sha256, []).append(image)
    across: dict[tuple[str, str], list[str]] = {}
    within: list[str] = []
    for same in by_hash.values():
        for number, image in enumerate(same):
            others = [other for other in same if other.split != image.split and _rank(other) < _rank(image)]
            for split in dict.fromkeys(other.split for other in others):
                first = next(other for other in others if other.split == split)
                across.setdefault((image.split, split), []).append(f"{image.image_id} = {first.image_id}")
            earlier = [
                other for other in same[:number] if other.split == image.split and other.case_id != image.case_id
            ]
            if earlier:
                within.append(f"{earlier[0].image_id} = {image.image_id}")
    for (later, earlier_split), pairs in across.items():
        verb = "1 photo that is" if len(pairs) == 1 else f"{len(pairs):,} photos that are"
        got = f"{verb} also in {earlier_split}, byte for byte: {shorten(pairs, _MOST)}"
        remedy = "remove them from one of the splits: what is scored must not be trained on"
        issues.add_loss(problem(later, got, "photos of its own", remedy))
    if within:
        count = "1 photo has" if len(within) == 1 else f"{len(within):,} photos have"
        issues.note(f"{count} the same bytes as another case's of its split ({shorten(within, 3)})")


def _rank(image: ImageRecord) -> int:
    return SPLITS.index(image.split)
