"""Duplicates on prepared/index.html: clusters of photos side by side, those with conflicting labels first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magic_cli.data.imaging.images import open_photo
from magic_cli.data.manifest import DuplicateCluster, DuplicatePhoto, PrepareManifest
from magic_cli.errors import DataError
from magic_cli.records import ImageRecord
from magic_cli.report import page

_CLUSTERS, _PHOTOS = 12, 3  # at most 36 pictures of 5 kB

_SIDE, _BYTES = 160, 5_000


@dataclass(frozen=True, slots=True)
class Copy:
    """A photo of a cluster: a data URI and its (width, height), "" and None if it cannot be read any more."""

    photo: DuplicatePhoto
    source: str
    size: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """Photos that are duplicates of each other, side by side; `more` are not shown."""

    copies: tuple[Copy, ...]
    more: int
    same_bytes: bool
    conflict: bool


def duplicates_to_show(manifest: PrepareManifest) -> Sequence[DuplicateCluster]:
    """Return the clusters that the page shows, with all of their photos in prepare.json."""
    return manifest.duplicates.shown[:_CLUSTERS] if manifest.duplicates else ()


def draw_duplicates(manifest: PrepareManifest, records: Mapping[str, ImageRecord]) -> list[Cluster]:
    """Return the clusters to show; of each, up to three photos, of as many labels and splits as possible.

    `records` maps image ids to the photos, which are read again.
    """
    return [_cluster(cluster, records) for cluster in duplicates_to_show(manifest)]


def _cluster(cluster: DuplicateCluster, records: Mapping[str, ImageRecord]) -> Cluster:
    first = {(photo.label, photo.split): photo for photo in reversed(cluster.photos)}
    chosen = sorted(cluster.photos, key=lambda photo: first[photo.label, photo.split] is not photo)[:_PHOTOS]
    copies = tuple(_copy(photo, records.get(photo.image)) for photo in chosen)
    return Cluster(copies, cluster.total - len(copies), cluster.same_bytes, cluster.conflict)


def _copy(photo: DuplicatePhoto, record: ImageRecord | None) -> Copy:
    if record is None or record.path is None:
        return Copy(photo, "", None)
    try:
        picture = open_photo(record.path, record.upright, at_least=_SIDE)
    except DataError:
        return Copy(photo, "", None)
    picture.thumbnail((_SIDE, _SIDE))
    return Copy(photo, page.data_uri(picture, _SIDE, _BYTES), picture.size)
