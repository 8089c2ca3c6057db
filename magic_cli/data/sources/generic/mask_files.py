"""Masks that no table names, found by their names: IMG_mask_ann0.tiff, IMG_mask.png, masks/IMG.png."""

from collections.abc import Mapping
from pathlib import PurePath

from magic_cli.data.imaging.masks import ANNOTATOR_MASK
from magic_cli.data.issues import counted
from magic_cli.data.names import MASK_SUFFIXES, is_for_masks, key_of, masked_photo
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.walk import below
from magic_cli.errors import problem

_Paths = tuple[str, ...]


class MaskFiles:
    """The masks below a folder by the photo that they are of; listed when they are first asked for."""

    def __init__(self, files: SourceFiles) -> None:
        self.files = files
        self.taken = 0
        self._annotated: dict[str, dict[str, str]] = {}
        self._others: dict[str, _Paths] | None = None

    def of(self, image_id: str, photo: str) -> Mapping[str, str]:
        """Return the masks of a photo, "ann0", "ann1", ... to absolute paths.

        Those of annotators count; without any, the only file that is named as its mask. Several such are a problem.
        """
        if self._others is None:
            self._others = self._list()
        key = key_of(image_id)
        masks = self._annotated.get(key)
        if not masks:
            others = tuple(path for path in self._others.get(key, ()) if path != photo)
            if len(others) > 1:
                got = f"{len(others)} files that look like its mask"
                line = problem(image_id, got, "one", f"name the right one {image_id}_mask_ann0.png")
                self.files.issues.add_loss(line, "masks", len(others))
                return {}
            masks = {"ann0": others[0]} if others else {}
        self.taken += len(masks)
        return dict(sorted(masks.items()))

    def note(self) -> None:
        """Say how many masks were taken."""
        if self.taken:
            masks = counted(self.taken, "mask was", "masks were")
            self.files.issues.note(f"{masks} found by name")

    def _list(self) -> dict[str, _Paths]:
        others: dict[str, _Paths] = {}
        for path in self.files.photos():
            pure = PurePath(path)
            match = ANNOTATOR_MASK.fullmatch(pure.name)
            if match:
                self._annotated.setdefault(key_of(match["image"]), {})[match["annotator"].casefold()] = path
                continue
            photo = masked_photo(pure.stem)[0] if pure.suffix.casefold() in MASK_SUFFIXES else ""
            if not photo and is_for_masks(PurePath(below(path, self.files.root)).parts[:-1]):
                photo = pure.stem
            if photo:
                others[key_of(photo)] = (*others.get(key_of(photo), ()), path)
        return others
