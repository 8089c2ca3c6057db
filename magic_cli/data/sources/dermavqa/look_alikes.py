"""Masks that are named as other tools name them: IMG_mask.png, IMG_segmentation.tif, masks/IMG.png."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from magic_cli.data.gold_masks import unnumbered_note
from magic_cli.data.imaging.masks import ANNOTATOR_MASK
from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.names import MASK_SUFFIXES, is_for_masks, key_of, loose_key_of, masked_photo, without_copy_mark
from magic_cli.data.sources.dermavqa.scan import Folder, Sources
from magic_cli.data.sources.walk import below, same_bytes
from magic_cli.errors import problem

_NAME = "IMG_..._mask_ann0.tiff"


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: str
    has_number: bool


class LookAlikes:
    """The files among a folder's photos that are masks by their name or folder.

    `photos` is what is left of the folder's photos, `masks` maps image ids to the one mask that was taken.
    """

    def __init__(self, files: Folder, ids: Mapping[str, str], issues: IssueLog) -> None:
        """Sort the files of `files.photos`; `ids` maps keys of all listed photos to their image ids."""
        self.files, self.ids, self.issues = files, ids, issues
        self.photos: dict[str, Sources] = {}
        self.masks: dict[str, str] = {}
        self.candidates: dict[str, list[_Candidate]] = {}
        self.without_photo: list[str] = []
        self.has_photos_elsewhere = any(
            not self._is_in_mask_folder(path) for key in ids for path in files.photos.get(key, ())
        )
        for key, paths in files.photos.items():
            kept = tuple(path for path in paths if not self._is_mask(key, path))
            if kept:
                self.photos[key] = kept

    def take(self) -> None:
        """Take the only candidate of each photo that no annotator drew a mask of; list all others."""
        beside: list[str] = []
        for image_id, found in self.candidates.items():
            sound = [candidate.path for candidate in found if self._is_sound(candidate)]
            if key_of(image_id) in self.files.masks:
                beside += sound
            elif len(sound) == 1 or (sound and same_bytes(sound)):
                self.masks[image_id] = sound[0]
            elif sound:
                got = f"{len(sound)} files that look like its mask, such as {self.files.name(sound[1])}"
                line = problem(self.files.name(sound[0]), got, "one", f"name the right one {_NAME}")
                self.issues.add_loss(line, "masks", len(sound))
        for path in self.without_photo:
            got = "a name of a mask, of no listed photo"
            line = problem(self.files.name(path), got, "a mask per listed photo", "rename or remove it")
            self.issues.add_loss(line, "masks")
        self._note(beside)

    def _note(self, beside: list[str]) -> None:
        if self.masks:
            self.issues.note(unnumbered_note([self.files.name(path) for path in self.masks.values()]))
        if beside:
            count = counted(len(beside), "file looks", "files look")
            such = self.files.name(beside[0])
            self.issues.note(f"{count} like a mask beside those of annotators (such as {such}): not used")

    def _is_mask(self, key: str, path: str) -> bool:
        """Return whether a file is a mask, and keep it in mind if it is."""
        stem = PurePath(path).stem
        image_id = self.ids.get(key, "")
        if image_id:
            can_be_mask = self.has_photos_elsewhere or PurePath(path).suffix.casefold() in MASK_SUFFIXES
            is_mask = can_be_mask and self._is_in_mask_folder(path)
            if is_mask:
                self.candidates.setdefault(image_id, []).append(_Candidate(path, False))
            return is_mask
        original = ANNOTATOR_MASK.fullmatch(f"{without_copy_mark(stem)}{PurePath(path).suffix}")
        if original and original["annotator"].casefold() in self.files.masks.get(key_of(original["image"]), {}):
            return True  # "IMG_1_mask_ann0 (1).tiff": a system's copy
        photo, has_number = masked_photo(stem)
        if not photo:
            return False
        found = self.ids.get(key_of(photo)) or self.ids.get(loose_key_of(photo))
        if found:
            self.candidates.setdefault(found, []).append(_Candidate(path, has_number))
        elif PurePath(path).suffix.casefold() in MASK_SUFFIXES:
            self.without_photo.append(path)
        return True

    def _is_in_mask_folder(self, path: str) -> bool:
        return is_for_masks(PurePath(below(path, self.files.root)).parts[:-1])

    def _is_sound(self, candidate: _Candidate) -> bool:
        """Return whether a candidate can be a mask; list it otherwise."""
        suffix = PurePath(candidate.path).suffix.casefold()
        if suffix not in MASK_SUFFIXES:
            got, remedy = f"a mask as {suffix} file", "export it without loss (such a file blurs its edges)"
            self.issues.add_loss(problem(self.files.name(candidate.path), got, "TIFF or PNG", remedy), "masks")
            return False
        if candidate.has_number and not ANNOTATOR_MASK.fullmatch(PurePath(candidate.path).name):
            got, remedy = "a mask with a number in another form", "rename it, numbers from 0"
            line = problem(self.files.name(candidate.path), got, "IMG_..._mask_ann0.tiff to ..._ann3.tiff", remedy)
            self.issues.add_loss(line, "masks")
            return False
        return True
