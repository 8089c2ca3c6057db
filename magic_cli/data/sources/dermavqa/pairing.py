"""Match photos and masks on disk with the listed photos; report what is missing, duplicated or left over."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath

from magic_cli.data.imaging.file_kinds import HEAD, is_photo, kind_of
from magic_cli.data.issues import IssueLog
from magic_cli.data.sources.dermavqa.scan import (
    ANNOTATORS,
    Folder,
    Sources,
    is_challenge_photo,
    key_of,
    same_bytes,
    too_large,
)
from magic_cli.errors import problem
from magic_cli.io.regular_file import open_regular
from magic_cli.records import SPLITS, Case

Photos = dict[str, str]

Masks = dict[str, dict[str, str]]


def pair(files: Folder, encounters: Iterable[Case], names: Mapping[str, str], issues: IssueLog) -> tuple[Photos, Masks]:
    """Match the photos that encounters list with the files of a folder and with their masks, by image id.

    `names` maps the key of an image id to the file name in the encounter's row, which decides between IMG_1.jpg and
    IMG_1.png. Every missing listed photo and every left-over photo or mask is a problem; a folder without any photo
    is text-only data, which is one note.
    """
    return _Pairing(files, names, issues).pair(encounters)


class _Pairing:
    def __init__(self, files: Folder, names: Mapping[str, str], issues: IssueLog) -> None:
        self.files, self.names, self.issues = files, names, issues
        self.photos: Photos = {}
        self.masks: Masks = {}
        self.copies: list[str] = []

    def pair(self, encounters: Iterable[Case]) -> tuple[Photos, Masks]:
        listed: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
        for encounter in encounters:
            listed[encounter.split] |= dict.fromkeys(encounter.image_ids, encounter.case_id)
        ids = {key_of(image_id): image_id for images in listed.values() for image_id in images}
        self._find_photos(listed)
        self._find_masks(ids)
        self._list_strangers(ids)
        self._list_bare(listed)
        if self.copies:
            count = "1 file is a copy" if len(self.copies) == 1 else f"{len(self.copies):,} files are copies"
            self.issues.note(f"{count} of others, byte for byte (such as {self.copies[0]}): one of each is used")
        return self.photos, self.masks

    def _find_photos(self, listed: Mapping[str, Mapping[str, str]]) -> None:
        total = sum(map(len, listed.values()))
        if not any(self._is_there(image_id) for images in listed.values() for image_id in images):
            self.issues.note(f"0 of {total:,} photos found: text-only dataset")
            return
        for split, images in listed.items():
            if images and not any(map(self._is_there, images)):
                got = f"0 of {len(images):,} photos"
                line = problem(split, got, "all of them", "add the folder with its photos")
                self.issues.add_loss(line, "images", len(images))
                continue
            for image_id, encounter_id in images.items():
                self._find_photo(image_id, encounter_id)

    def _is_there(self, image_id: str) -> bool:
        key = key_of(image_id)
        return key in self.files.photos or key in self.files.blocked or any(map(_is_photo, self._others(key)))

    def _others(self, key: str) -> Sources:
        return self.files.others.get(key, ())

    def _find_photo(self, image_id: str, encounter_id: str) -> None:
        key = key_of(image_id)
        name = self.names.get(key, "")
        listed = tuple(path for path in self.files.converted.get(key, ()) if PurePath(path).name == name)
        paths = self.files.photos.get(key) or tuple(filter(_is_photo, self._others(key)))
        if not paths:
            self._miss(image_id, encounter_id)
            return
        path = self._one((*paths, *(path for path in listed if path not in paths)), name, "images")
        if path:
            self.photos[image_id] = path

    def _miss(self, image_id: str, encounter_id: str) -> None:
        key, got, remedy = key_of(image_id), f"no photo for {encounter_id}", "copy it, or remove it from the list"
        if key in self.files.blocked:
            got, remedy = f"{got}, but {self.files.blocked[key]}", "put the file itself there"
        elif self._others(key):
            path = self._others(key)[0]
            got = f"{got}, but {self.files.name(path)}, {kind_of(_head(path)) or 'no photo'}"
        self.issues.add_loss(problem(image_id, got, "a JPEG or PNG file", remedy), "images")

    def _one(self, paths: Sources, name: str, what: str) -> str | None:
        """Choose among several files of the same name: copies are interchangeable, else the listed name decides."""
        exact = tuple(path for path in paths if PurePath(path).name == name)
        ordered = [*exact, *(path for path in paths if path not in exact)]
        if len(paths) == 1 or all(map(too_large, paths)):  # too large ones are left out when they are read
            return ordered[0]
        if same_bytes(ordered):
            self.copies += [self.files.name(path) for path in ordered[1:]]
            return ordered[0]
        got, where = f"{len(paths)} files that differ, also {self.files.name(ordered[1])}", self.files.name(ordered[0])
        if exact and same_bytes(exact):
            self.issues.add_loss(problem(where, got, "one file per name", "remove the others; this one is used"))
            return exact[0]
        self.issues.add_loss(
            problem(where, got, "one file per name", "remove all but the right one; none is used"), what
        )
        return None

    def _list_strangers(self, ids: Mapping[str, str]) -> None:
        """List photos on disk that no encounter names: the challenge's own train.json lacks one."""
        for key, paths in self.files.photos.items():
            if key not in ids and is_challenge_photo(paths[0]):
                masks = len(self.files.masks.get(key, {}))
                got = "a photo that no encounter lists" + (f" (masks: {masks})" if masks else "")
                line = problem(self.files.name(paths[0]), got, "listed photos", "add it to the row of its encounter")
                self.issues.add_loss(line, "images")
                self.issues.left_out["masks"] += masks

    def _find_masks(self, ids: Mapping[str, str]) -> None:
        orphans = 0
        for key, by_annotator in self.files.masks.items():
            image_id = ids.get(key, "")
            if image_id:
                self._find_annotators(image_id, by_annotator)
            if not self.photos:
                orphans += len(by_annotator)
            elif image_id not in self.photos and (image_id or key not in self.files.photos):
                where = self.files.name(next(iter(by_annotator.values()))[0])
                got = f"masks without a photo ({len(by_annotator)} of this name)"
                line = problem(where, got, "a photo for each mask", "copy the photo, or remove the masks")
                self.issues.add_loss(line, "masks", len(by_annotator))
        if orphans:
            self.issues.note(f"{orphans:,} masks are not used, as there are no photos")

    def _find_annotators(self, image_id: str, by_annotator: Mapping[str, Sources]) -> None:
        for annotator, paths in sorted(by_annotator.items()):
            if annotator not in ANNOTATORS:
                line = problem(self.files.name(paths[0]), annotator, "ann0 to ann3", "rename or remove it")
                self.issues.add_loss(line, "masks")
                continue
            path = self._one(paths, "", "masks")
            if path:
                self.masks.setdefault(image_id, {})[annotator] = path

    def _list_bare(self, listed: Mapping[str, Mapping[str, str]]) -> None:
        """Report photos without a mask in splits where most have one; fewer masks mean hidden or partial gold."""
        for split, images in listed.items():
            photos = [image_id for image_id in images if image_id in self.photos]
            bare = [image_id for image_id in photos if key_of(image_id) not in self.files.masks]
            if bare and len(bare) * 2 <= len(photos):
                remedy = "copy its masks; seg cannot use it"
                for image_id in bare:
                    self.issues.add_loss(problem(image_id, "no mask", "one to four masks", remedy))
            elif bare and len(bare) < len(photos):
                self.issues.note(f"{split}: {len(photos) - len(bare):,} of {len(photos):,} photos have a mask")


def _is_photo(path: str) -> bool:
    return is_photo(_head(path))


def _head(path: str) -> bytes:
    """Return the first bytes of a file, b"" if it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(HEAD) or b""
    except OSError:
        return b""
