"""The prepared dataset as it will be written: cases with their splits, photos with the size of their masks."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from magic_cli.data.imaging.appearance import Appearance
from magic_cli.data.imaging.lesion_share import LesionShare
from magic_cli.data.imaging.mean_mask import TrainingMeanMask
from magic_cli.data.preparation.case_texts import CaseTexts
from magic_cli.data.preparation.photos import PhotoFacts, mask_name
from magic_cli.data.preparation.plan import Plan
from magic_cli.data.preparation.store import CaseStore, Stored
from magic_cli.data.preparation.subgroups import with_subgroups
from magic_cli.data.sources.source import RawDataset
from magic_cli.data.texts.pair_texts import has_text
from magic_cli.records import Case, ImageRecord

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class FinalDataset:
    """Cases and photos in their final form, made anew each time that they are iterated; memory stays flat.

    `root` is the folder that the dataset will have, `merge` how masks were merged, `texts` adds texts to cases.
    """

    raw: RawDataset
    store: CaseStore
    plan: Plan
    root: Path
    merge: str
    texts: CaseTexts

    def cases(self) -> Iterator[Case]:
        """Yield the cases in order, with their texts; what is said about these is counted anew."""
        self.texts.restart()
        for number, case in enumerate(self.store.each_case()):
            if number in self.plan.emptied:
                continue
            case = replace(case, split=self.plan.splits[number], group_id=self.plan.groups[number])
            yield self.texts.made(case if self.raw.is_challenge else with_subgroups(case, self.raw.source))

    def photos(self, plain: bool = True) -> Iterator[Stored]:
        """Yield the photos in the order of their cases, less those that are left out as duplicates.

        `plain` False: only those that are not `PhotoFacts.is_plain`.
        """
        return (photo for photo in self.store.each_photo(plain) if photo.number not in self.plan.dropped)

    def images(self, plain: bool = True) -> Iterator[ImageRecord]:
        """Yield the records of `photos`."""
        yield from map(self._record, self.photos(plain))

    def named_in(self, folder: Path, image_ids: Collection[str]) -> dict[str, ImageRecord]:
        """Return some photos by id, also of those that are left out, with their paths as `marked_in` has them."""
        chosen = (
            photo for photo in (self.store.each_photo() if image_ids else ()) if photo.facts.image_id in image_ids
        )
        return {photo.facts.image_id: self._moved(self._record(photo), folder) for photo in chosen}

    def _record(self, photo: Stored) -> ImageRecord:
        facts, upright = photo.facts, self._upright(photo.facts)
        height, width = facts.size.upright if upright else facts.size.raw
        return ImageRecord(
            image_id=facts.image_id,
            case_id=photo.case_id,
            split=self.plan.splits[photo.owner],
            path=facts.path,
            height=height,
            width=width,
            upright=upright,
            mask=str(self.root / mask_name(facts.image_id)) if facts.annotators and self.merge != "each" else None,
            annotators=facts.annotators,
            sha256=facts.sha256,
        )

    def marked_in(self, folder: Path) -> Iterator[ImageRecord]:
        """Yield the photos with masks, with the paths that they have while the dataset lies in `folder`, not `root`."""
        for image in self.images(plain=False):
            if image.annotators:
                yield self._moved(image, folder)

    def pairs_in(self, folder: Path) -> Iterator[tuple[Case, ImageRecord]]:
        """Yield each photo whose case says anything, with the case; paths are as `marked_in` has them."""
        images = self.images_in(folder)
        image = next(images, None)
        for case in self.cases():
            says = has_text(case)
            while image is not None and image.case_id == case.case_id:
                if says:
                    yield case, image
                image = next(images, None)

    def images_in(self, folder: Path) -> Iterator[ImageRecord]:
        """Yield the records of all photos, with paths as `marked_in` has them."""
        return (self._moved(image, folder) for image in self.images())

    def _moved(self, image: ImageRecord, folder: Path) -> ImageRecord:
        def moved(path: str) -> str:
            place = Path(path)
            return str(folder / place.relative_to(self.root)) if place.is_relative_to(self.root) else path

        annotators = {name: moved(path) for name, path in image.annotators.items()}
        mask, path = image.mask and moved(image.mask), image.path and moved(image.path)
        return replace(image, path=path, mask=mask, annotators=annotators)

    @cached_property
    def default(self) -> bool:
        """Whether photos with undecided masks are turned upright: whether most decided photos are.

        Where no mask decides, as in a folder of test photos alone, they are turned, as those who draw masks see them.
        """
        turned = (facts for _, _, facts, _ in self.photos(plain=False) if facts.size.orientation != 1)
        decided = [facts.upright for facts in turned if facts.upright is not None]
        return sum(decided) * 2 > len(decided) or not decided

    def _upright(self, facts: PhotoFacts) -> bool:
        return self.default if facts.upright is None else facts.upright

    @cached_property
    def dices(self) -> dict[str, float]:
        """The mean Dice over pairs of annotators of the photos that have several, by image id."""
        return {facts.image_id: facts.dice for _, _, facts, _ in self.photos(plain=False) if facts.dice is not None}

    def shares(self, split: str) -> dict[str, LesionShare]:
        """Return how much each mask of a split marks, by the name of its file."""
        own = (facts.shares for owner, _, facts, _ in self.photos(plain=False) if self.plan.splits[owner] == split)
        return {name: share for masks in own for name, share in masks.items()}

    def appearances(self) -> Iterator[tuple[str, Appearance]]:
        """Yield how viewers show masks if otherwise than stored: a turn that the photo shares is none."""
        for _, _, facts, _ in self.photos(plain=False):
            turned = 1 if self._upright(facts) else facts.size.orientation
            for name, seen in facts.appearances.items():
                yield name, replace(seen, orientation=1) if seen.orientation == turned else seen

    def mean_mask(self) -> "Image | None":
        """Return the mean of the train masks, 64 x 64 8-bit grey; None without any."""
        mean = TrainingMeanMask()
        for owner, _, facts, _ in self.photos(plain=False):
            if facts.small is not None and self.plan.splits[owner] == "train":
                mean.add_shrunk(facts.small)
        return mean.image()
