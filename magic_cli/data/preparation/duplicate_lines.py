"""What is told about duplicates: across splits, within one, and where their labels differ."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.manifest import DuplicateCluster, DuplicatePhoto, DuplicateReport
from magic_cli.data.preparation.duplicates import BITS, CORRELATION, Duplicates, Numbers
from magic_cli.data.preparation.store import CaseStore
from magic_cli.errors import printable, problem, shorten
from magic_cli.records import SPLITS

_MOST, _FEW = 5, 3  # pairs that a problem names, and a note

_ANY = -1  # instead of the number of the first photo with the same bytes

_CLUSTERS, _PHOTOS = 200, 8  # clusters in prepare.json, and photos of each


@dataclass(frozen=True, eq=False)
class Situation:
    """Where photos are: `owners` (photos,) gives their cases, `splits` (cases,) the number of the split of each.

    `labels` are those of the cases, `dropped` the numbers of photos that are left out.
    """

    found: Duplicates
    owners: Numbers
    splits: np.ndarray[tuple[int, ...], np.dtype[np.int8]]
    labels: Sequence[str | None]
    dropped: frozenset[int] = frozenset()

    def clusters(self) -> Iterator[list[int]]:
        """Yield the clusters of several photos by their first photo, each in order."""
        sizes = np.bincount(self.found.cluster, minlength=1)
        members = np.flatnonzero(sizes[self.found.cluster] > 1)
        order = members[np.argsort(self.found.cluster[members], kind="stable")]
        for part in np.split(order, np.flatnonzero(np.diff(self.found.cluster[order])) + 1):
            if len(part):
                yield part.tolist()

    def split(self, photo: int) -> int:
        """Return the number of the split of a photo."""
        return int(self.splits[self.owners[photo]])

    def label(self, photo: int) -> str | None:
        """Return the label of a photo's case."""
        return self.labels[int(self.owners[photo])]

    def has_conflict(self, photos: Sequence[int]) -> bool:
        """Return whether photos have different labels; those without one do not count."""
        return len({self.label(photo) for photo in photos} - {None}) > 1


@dataclass
class _Pairs:
    """Pairs (photo, the one it equals): by their splits (later, earlier) across, and within a split."""

    across: dict[tuple[int, int], list[tuple[int, int]]] = field(default_factory=dict)
    within: list[tuple[int, int]] = field(default_factory=list)


def report(situation: Situation, store: CaseStore, issues: IssueLog) -> DuplicateReport:
    """List what is wrong and what is odd about duplicates, and return the figures and the clusters to show."""
    exact, near = _Pairs(), _Pairs()
    conflicts: list[list[int]] = []
    ranked: list[tuple[int, list[int]]] = []
    total = 0
    for photos in situation.clusters():
        total += 1
        left = [photo for photo in photos if photo not in situation.dropped]
        _relate(situation, left, exact, near)
        is_conflict = situation.has_conflict(photos)
        if is_conflict:
            conflicts.append(photos)
        is_across = len({situation.split(photo) for photo in left}) > 1
        if len({int(situation.owners[photo]) for photo in photos}) > 1:  # those of one case do no harm
            ranked.append((0 if is_conflict else 1 if is_across else 2, photos))
    _list(exact, "byte for byte", "the same bytes as another case's", store, issues)
    _list(near, "nearly the same", "nearly the same picture as another case's", store, issues)
    _list_conflicts(situation, conflicts, store, issues)
    _list_dropped(situation, store, issues)
    ranked.sort(key=lambda item: item[0])
    same = int(np.count_nonzero(situation.found.exact != np.arange(len(situation.owners))))
    alike = int(np.count_nonzero(situation.found.cluster != np.arange(len(situation.owners))))
    across_near = sum(map(len, near.across.values()))
    return DuplicateReport(
        bits=BITS,
        correlation=CORRELATION,
        exact=same,
        near=alike - same,
        clusters=total,
        conflicts=len(conflicts),
        across=sum(map(len, exact.across.values())) + across_near,
        dropped=len(situation.dropped),
        shown=tuple(_cluster(situation, photos, store) for _, photos in ranked[:_CLUSTERS]),
        across_near=across_near,
    )


def _relate(situation: Situation, photos: Sequence[int], exact: _Pairs, near: _Pairs) -> None:
    """Sort the photos of a cluster into pairs; each photo is told with the first that it equals in a split."""
    firsts: dict[tuple[int, int], tuple[int, int | None]] = {}  # (bytes, split): first photo, first of another case
    for photo in photos:
        split, case = situation.split(photo), situation.owners[photo]
        for key in ((int(situation.found.exact[photo]), split), (_ANY, split)):
            one, other = firsts.get(key, (photo, None))
            firsts[key] = one, photo if other is None and situation.owners[one] != case else other
    for photo in photos:
        split, case, same = situation.split(photo), situation.owners[photo], int(situation.found.exact[photo])
        for earlier in range(split):
            for which, pairs in ((same, exact), (_ANY, near)):
                if (which, earlier) in firsts:
                    pairs.across.setdefault((split, earlier), []).append((photo, firsts[which, earlier][0]))
                    break
        for which, pairs in ((same, exact), (_ANY, near)):
            one, other = firsts[which, split]
            earliest = one if situation.owners[one] != case else other
            if earliest is not None and earliest < photo:
                pairs.within.append((earliest, photo))
                break


def _list(pairs: _Pairs, how: str, what: str, store: CaseStore, issues: IssueLog) -> None:
    for (later, earlier), found in pairs.across.items():
        verb = counted(len(found), "photo that is", "photos that are")
        got = f"{verb} also in {SPLITS[earlier]}, {how}: {shorten(_equations(found, _MOST, store), _MOST)}"
        remedy = "remove them from one of the splits: what is scored must not be trained on"
        issues.add_loss(problem(SPLITS[later], got, "photos of its own", remedy))
    if pairs.within:
        count = counted(len(pairs.within), "photo has", "photos have")
        issues.note(f"{count} {what} of its split ({shorten(_equations(pairs.within, _FEW, store), _FEW)})")


def _equations(pairs: Sequence[tuple[int, int]], most: int, store: CaseStore) -> list[str]:
    return [f"{store.photo_name(one)} = {store.photo_name(other)}" for one, other in pairs[: most + 1]]


def _list_conflicts(
    situation: Situation, conflicts: Sequence[Sequence[int]], store: CaseStore, issues: IssueLog
) -> None:
    """List clusters whose cases have different labels, with the first two photos that show it."""
    if not conflicts:
        return
    texts = [" = ".join(_first_of_each_label(situation, photos, store)) for photos in conflicts[: _MOST + 1]]
    verb = counted(len(conflicts), "photo that has", "photos that have")
    got = f"{verb} duplicates of another label: {shorten(texts, _MOST)}"
    issues.add_loss(problem("labels", got, "one label", "look at them in index.html, and correct the source"))


def _first_of_each_label(situation: Situation, photos: Sequence[int], store: CaseStore) -> list[str]:
    """Return "PHOTO LABEL" of the first photo of each label, at most four of them."""
    first: dict[str, int] = {}
    for photo in photos:
        label = situation.label(photo)
        if label is not None:
            first.setdefault(label, photo)
    return [f"{store.photo_name(photo)} {printable(label)[:40]}" for label, photo in list(first.items())[:4]]


def _list_dropped(situation: Situation, store: CaseStore, issues: IssueLog) -> None:
    if situation.dropped:
        names = [store.photo_name(photo) for photo in sorted(situation.dropped)[: _FEW + 1]]
        number = len(situation.dropped)
        verb = counted(number, "duplicate photo is", "duplicate photos are")
        issues.note(f"{verb} left out (--duplicates drop): {shorten(names, _FEW)}")
        issues.left_out["images"] += number


def _cluster(situation: Situation, photos: Sequence[int], store: CaseStore) -> DuplicateCluster:
    labels = Counter(situation.label(photo) for photo in photos)
    spread = sorted(photos, key=lambda photo: (labels[situation.label(photo)] > 1, photo))[:_PHOTOS]
    return DuplicateCluster(
        photos=tuple(
            DuplicatePhoto(
                image=store.photo_name(photo),
                case=store.case_name(int(situation.owners[photo])),
                split="" if photo in situation.dropped else SPLITS[situation.split(photo)],
                label=situation.label(photo),
            )
            for photo in sorted(spread)
        ),
        total=len(photos),
        same_bytes=len({int(situation.found.exact[photo]) for photo in photos}) == 1,
        conflict=situation.has_conflict(photos),
    )
