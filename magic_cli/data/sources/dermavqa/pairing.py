"""Match photos and masks on disk with the listed photos; report what is missing, duplicated or left over."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from magic_cli.data.imaging.photo_kinds import HEAD, is_photo, kind_of
from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.names import USUAL_SUFFIXES, key_of, loose_key_of
from magic_cli.data.sources.dermavqa.look_alikes import LookAlikes
from magic_cli.data.sources.dermavqa.scan import ANNOTATORS, Folder, Sources, is_challenge_photo
from magic_cli.data.sources.dermavqa.tables import split_of
from magic_cli.data.sources.walk import same_bytes, too_large
from magic_cli.errors import is_shown, problem, redact_key, shorten
from magic_cli.io.regular_file import open_regular
from magic_cli.records import SPLITS, Case

Photos = dict[str, str]

Masks = dict[str, dict[str, str]]

Listed = Mapping[str, Mapping[str, str]]  # split to image id to encounter


def pair(files: Folder, encounters: Iterable[Case], names: Mapping[str, str], issues: IssueLog) -> tuple[Photos, Masks]:
    """Match the photos that encounters list with the files of a folder and with their masks, by image id.

    `names` maps the key of an image id to the file name in the encounter's row, which decides between IMG_1.jpg and
    IMG_1.png. Every missing listed photo and every left-over photo or mask is a problem, as is a packed archive where
    something is missing; a folder without any photo is text-only data, which is one note.
    """
    return _Pairing(files, names, issues).pair(encounters)


class _Pairing:
    def __init__(self, files: Folder, names: Mapping[str, str], issues: IssueLog) -> None:
        self.files, self.names, self.issues = files, names, issues
        self.photos: Photos = {}
        self.masks: Masks = {}
        self.copies: list[str] = []
        self.respelled: list[str] = []

    def pair(self, encounters: Iterable[Case]) -> tuple[Photos, Masks]:
        listed: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
        for encounter in encounters:
            listed[encounter.split] |= dict.fromkeys(encounter.image_ids, encounter.case_id)
        ids = {key_of(image_id): image_id for images in listed.values() for image_id in images}
        self.alikes = LookAlikes(self.files, ids, self.issues)
        self.on_disk = self.alikes.photos
        self._respell(ids)
        self._find_photos(listed)
        self._find_masks(ids)
        self._list_strangers(ids)
        self._list_bare(listed)
        self._list_archives(listed)
        self._note()
        return self.photos, self.masks

    def _note(self) -> None:
        if self.copies:
            count = counted(len(self.copies), "file is a copy", "files are copies")
            self.issues.note(f"{count} of others, byte for byte (such as {self.copies[0]}): one of each is used")
        if self.respelled:
            count = counted(len(self.respelled), "photo is", "photos are")
            self.issues.note(f"{count} spelled otherwise in the tables (such as {self.respelled[0]}): found anyway")

    def _respell(self, ids: Mapping[str, str]) -> None:
        """Give a photo that no row lists to the listed one without a photo that it can only be, by its loose key."""
        lost: dict[str, list[str]] = {}
        for key, image_id in ids.items():
            if key not in self.on_disk:
                lost.setdefault(loose_key_of(image_id), []).append(key)
        if not lost:
            return
        spare: dict[str, list[str]] = {}
        for key, paths in self.on_disk.items():
            if key not in ids:
                spare.setdefault(loose_key_of(PurePath(paths[0]).stem), []).append(key)
        for loose, keys in lost.items():
            found = spare.get(loose, [])
            if len(keys) == len(found) == 1:
                self.on_disk[keys[0]] = self.on_disk.pop(found[0])
                self.respelled.append(self.files.name(self.on_disk[keys[0]][0]))

    def _find_photos(self, listed: Listed) -> None:
        total = sum(map(len, listed.values()))
        if not any(self._is_there(image_id) for images in listed.values() for image_id in images):
            there = self._what_is_there()
            if not there or not total:
                self.issues.note(f"0 of {total:,} photos found: text-only dataset")
                return
            unpack = "unpack them, and prepare again with --overwrite"
            remedy = unpack if self.files.archives else "name the files as the rows do"
            line = problem("image_ids", f"0 of {total:,} photos ({there})", "a file for each listed photo", remedy)
            self.issues.add_loss(line, "images", total)
            return
        for split, images in listed.items():
            if images and not any(map(self._is_there, images)):
                got = f"0 of {len(images):,} photos"
                line = problem(split, got, "all of them", "add the folder with its photos")
                self.issues.add_loss(line, "images", len(images))
                continue
            for image_id, encounter_id in images.items():
                self._find_photo(image_id, encounter_id)

    def _what_is_there(self) -> str:
        """Return what lies there in place of the listed photos; "" if nothing does."""
        suffixes = Counter(PurePath(path).suffix.casefold() for paths in self.on_disk.values() for path in paths)
        there = [f"{number:,} {suffix} files of other names" for suffix, number in suffixes.most_common(3)]
        number = len(self.files.archives)
        there += ["1 packed archive" if number == 1 else f"{number} packed archives"] * bool(number)
        return ", ".join(there)

    def _is_there(self, image_id: str) -> bool:
        key = key_of(image_id)
        return key in self.on_disk or key in self.files.blocked or any(map(_is_photo, self._others(key)))

    def _others(self, key: str) -> Sources:
        return self.files.others.get(key, ())

    def _find_photo(self, image_id: str, encounter_id: str) -> None:
        key = key_of(image_id)
        name = self.names.get(key, "")
        paths = _preferred(self.on_disk.get(key, ()), name) or tuple(filter(_is_photo, self._others(key)))
        if not paths:
            self._miss(image_id, encounter_id)
            return
        path = self._one(paths, name, "images")
        if path:
            self.photos[image_id] = path

    def _miss(self, image_id: str, encounter_id: str) -> None:
        key, remedy = key_of(image_id), "copy it, or remove it from the list"
        got = f"no photo for {redact_key(encounter_id)}"
        if key in self.files.blocked:
            got, remedy = f"{got}, but {self.files.blocked[key]}", "put the file itself there"
        elif self._others(key):
            path = self._others(key)[0]
            got = f"{got}, but {self.files.name(path)}, {kind_of(_head(path)) or 'no photo'}"
        self.issues.add_loss(problem(_place(image_id, encounter_id), got, "a JPEG or PNG file", remedy), "images")

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
        """List photos on disk that no encounter names: the challenge's own train.json lacks one.

        Pictures of other names may be anything; they are told where a listed photo is missing.
        """
        unlisted = (paths[0] for key, paths in self.on_disk.items() if key not in ids)
        others = [path for path in unlisted if not is_challenge_photo(path)]
        if others and len(self.photos) < len(ids):
            names = shorten(map(self.files.name, others), 3, total=True)
            self.issues.note(f"pictures that no encounter lists, while listed photos are missing: {names}")
        for key, paths in self.on_disk.items():
            if key not in ids and is_challenge_photo(paths[0]):
                masks = len(self.files.masks.get(key, {}))
                got = "a photo that no encounter lists" + (f" (masks: {masks})" if masks else "")
                line = problem(self.files.name(paths[0]), got, "listed photos", "add it to the row of its encounter")
                self.issues.add_loss(line, "images")
                self.issues.left_out["masks"] += masks

    def _find_masks(self, ids: Mapping[str, str]) -> None:
        orphans = 0
        loose = {loose_key_of(image_id): image_id for image_id in ids.values()}
        for key, by_annotator in self.files.masks.items():
            image_id = ids.get(key) or loose.get(loose_key_of(key), "")
            if image_id:
                self._find_annotators(image_id, by_annotator)
            if not self.photos:
                orphans += len(by_annotator)
            elif image_id not in self.photos and (image_id or key not in self.on_disk):
                where = self.files.name(next(iter(by_annotator.values()))[0])
                got = f"masks without a photo ({len(by_annotator)} of this name)"
                line = problem(where, got, "a photo for each mask", "copy the photo, or remove the masks")
                self.issues.add_loss(line)
                self.issues.left_out["masks"] += len(by_annotator)
        self.alikes.take()
        for image_id, path in self.alikes.masks.items():
            self.masks.setdefault(image_id, {})["ann0"] = path
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

    def _list_bare(self, listed: Listed) -> None:
        """Report photos without a mask in splits where most have one; fewer masks mean hidden or partial gold."""
        for split, images in listed.items():
            photos = [image_id for image_id in images if image_id in self.photos]
            bare = [image_id for image_id in photos if not self._is_drawn(image_id)]
            if bare and len(bare) * 2 <= len(photos):
                remedy = "copy its masks; seg cannot use it"
                for image_id in bare:
                    where = _place(image_id, images[image_id])
                    self.issues.add_loss(problem(where, "no mask", "one to four masks", remedy))
            elif bare and len(bare) < len(photos):
                self.issues.note(f"{split}: {len(photos) - len(bare):,} of {len(photos):,} photos have a mask")

    def _is_drawn(self, image_id: str) -> bool:
        """Return whether a photo has a mask on disk, usable or not."""
        return key_of(image_id) in self.files.masks or image_id in self.masks or image_id in self.alikes.candidates

    def _list_archives(self, listed: Listed) -> None:
        """List packed archives if something is missing that may be in them."""
        if self.files.archives and self._is_incomplete(listed):
            for path in self.files.archives:
                line = problem(self.files.name(path), "a packed archive", "the files in it", "unpack it")
                self.issues.add_loss(line)

    def _is_incomplete(self, listed: Listed) -> bool:
        if any(image_id not in self.photos for images in listed.values() for image_id in images):
            return True
        for split in ("train", "valid"):
            if listed[split] and not any(map(self._is_drawn, listed[split])):
                return True
        splits = {split_of(path, self.files.root) for path in self.files.archives}
        return any(not listed.get(split) for split in splits if split)


def _place(image_id: str, encounter_id: str) -> str:
    """Return the name of a photo in messages: its id, or its list if what is listed may be a patient's text."""
    return image_id if is_shown(image_id) else f"{redact_key(encounter_id)}:image_ids"


def _preferred(paths: Sources, name: str) -> Sources:
    """Return the files of a usual suffix, and the one that is listed; all if there is none of a usual suffix."""
    usual = tuple(path for path in paths if PurePath(path).suffix.casefold() in USUAL_SUFFIXES)
    return (*usual, *(path for path in paths if path not in usual and PurePath(path).name == name)) if usual else paths


def _is_photo(path: str) -> bool:
    return is_photo(_head(path))


def _head(path: str) -> bytes:
    """Return the first bytes of a file, b"" if it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(HEAD) or b""
    except OSError:
        return b""
