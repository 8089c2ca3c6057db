"""Read all cases of a raw dataset into the store, with unique ids; what cannot be used is listed and counted."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from magic_cli.data.imaging.cleaned_masks import CLEANED, CLEANING
from magic_cli.data.issues import counted
from magic_cli.data.preparation.photos import CaseRead, PhotoFacts
from magic_cli.data.preparation.store import CaseStore
from magic_cli.data.prepared import case_row
from magic_cli.data.prompts import replace_surrogates
from magic_cli.data.sources.source import RawCase, RawDataset
from magic_cli.errors import DataError, problem, redact_key
from magic_cli.io import schema


@dataclass
class Gatherer:
    """What comes into the store.

    Attributes:
        raw: the raw dataset.
        store: where its cases and photos go.
        renamed: photos whose id another photo had.
        cleaned: masks that are binary only after a threshold.
    """

    raw: RawDataset
    store: CaseStore
    renamed: int = 0
    cleaned: int = 0

    def note(self) -> None:
        """Note what was changed, once all cases are kept."""
        if self.renamed:
            photos = counted(self.renamed, "photo has", "photos have")
            self.raw.issues.note(f"{photos} the name of another one: a number is added to the id")
        if self.cleaned:
            masks = counted(self.cleaned, "mask is", "masks are")
            self.raw.issues.note(f"{masks} not stored as 0 and 1, or 0 and 255: {CLEANING}")

    def unique(self) -> Iterator[RawCase]:
        """Yield the cases of the dataset whose ids are new; a photo whose id is taken gets a number behind it."""
        for raw in map(_encodable, self.raw.cases):
            where = raw.where or redact_key(raw.case.case_id)
            if self.raw.repeats_ids:
                raw = _named(raw, self.store.free_name(raw.case.case_id, "case"))
            elif not self.store.claim(raw.case.case_id, "case"):
                got = f"{redact_key(raw.case.case_id)} twice"
                self.raw.issues.add_loss(problem(where, got, "once", "remove one row; the first is used"), "cases")
                continue
            ids = {photo.image_id: self.store.free_name(photo.image_id, "photo") for photo in raw.photos}
            if all(image_id == free for image_id, free in ids.items()):
                yield raw
                continue
            self.renamed += sum(image_id != free for image_id, free in ids.items())
            case = replace(raw.case, image_ids=tuple(ids.get(image_id, image_id) for image_id in raw.case.image_ids))
            photos = tuple(replace(photo, image_id=ids[photo.image_id]) for photo in raw.photos)
            yield replace(raw, case=case, photos=photos)

    def keep(self, read: CaseRead) -> None:
        """Put a case and its usable photos into the store; what cannot be used is a problem."""
        raw, issues = read.raw, self.raw.issues
        where = raw.where or redact_key(raw.case.case_id)
        usable: list[PhotoFacts] = []
        for photo in read.photos:
            if isinstance(photo, DataError):
                issues.add_loss(photo.problems[0], "images")
                continue
            for line in photo.problems:
                issues.add_loss(line)
            issues.left_out["masks"] += photo.lost_masks
            self.cleaned += sum(kind in CLEANED for kind in photo.kinds)
            usable.append(photo)  # with masks or not: the closed questions need none
        case = raw.case
        if not self.raw.is_challenge:
            present = {photo.image_id for photo in raw.photos}
            for image_id in case.image_ids:
                if image_id not in present:
                    remedy = "download it, or remove the row; left out"
                    issues.add_loss(problem(where, f"no photo {redact_key(image_id)}", "its file", remedy), "images")
            if case.image_ids and not usable:
                issues.left_out["cases"] += 1
                return
            case = replace(case, group_id=case.group_id or (usable[0].sha256[:16] if usable else case.case_id))
        faults = schema.problems("case", case_row(case) | {"split": case.split or "train"}, where, most=1)
        if faults:
            issues.add_loss(f"{faults[0]}; fix the row", "cases")
            return
        owner = self.store.add_case(case)
        for facts in usable:
            self.store.add_photo(owner, facts)


def _named(raw: RawCase, case_id: str) -> RawCase:
    return raw if raw.case.case_id == case_id else replace(raw, case=replace(raw.case, case_id=case_id))


def _encodable(raw: RawCase) -> RawCase:
    """Return a case whose id, group and label UTF-8 can hold: JSON can have lone surrogates, which become U+FFFD."""
    case = raw.case
    try:
        f"{case.case_id}{case.group_id}{case.label}".encode()
    except UnicodeEncodeError:
        label = None if case.label is None else replace_surrogates(case.label)
        names = replace_surrogates(case.case_id), replace_surrogates(case.group_id)
        return replace(raw, case=replace(case, case_id=names[0], group_id=names[1], label=label))
    return raw
