"""DermaMNIST: the npz of MedMNIST at 28, 64, 128 or 224 pixels, read photo by photo from the packed arrays."""

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.limits import MAX_PIXELS
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.lfs import refuse_pointer
from magic_cli.data.sources.source import RawCase, RawDataset, RawPhoto, ReadOptions, Source
from magic_cli.errors import DataError, printable, problem, shorten
from magic_cli.io.regular_file import open_regular
from magic_cli.records import Case

# Source: the module `info` of the package medmnist; the codes are those of HAM10000
CLASSES = (
    ("akiec", "actinic keratoses and intraepithelial carcinoma"),
    ("bcc", "basal cell carcinoma"),
    ("bkl", "benign keratosis-like lesions"),
    ("df", "dermatofibroma"),
    ("mel", "melanoma"),
    ("nv", "melanocytic nevi"),
    ("vasc", "vascular lesions"),
)

_SPLITS = {"train": "train", "val": "valid", "test": "test"}

_SIZES = (7007, 1003, 2005)  # photos of the three splits, whatever the file is called

_LEAK = (
    "DermaMNIST's split ignores lesion_id: photos of one lesion of HAM10000 are in several splits, and the file does"
    " not say which; use it as a smoke test only"
)

_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, RuntimeError, NotImplementedError)


class DermaMnist(Source):
    """The photos of HAM10000 as MedMNIST shrank them."""

    name = "dermamnist"
    title = "DermaMNIST of MedMNIST v2"
    origin = "https://medmnist.com/"
    licence = "CC BY-NC 4.0"
    expected = "dermamnist.npz, dermamnist_64.npz, dermamnist_128.npz or dermamnist_224.npz"

    def find(self, files: SourceFiles) -> str:
        """Return the first npz of this name, or with the arrays of this dataset in its numbers."""
        for path in files.named("*.npz"):
            if re.search(r"derma[_ -]?mnist", PurePath(path).name, re.I) or _has_numbers(path):
                return path
        return ""

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the photos of the npz with the largest ones.

        Raises:
            DataError: there is none, it is damaged, or its arrays are others than documented, such as pickled objects.
        """
        paths = [path for path in files.named("*.npz") if path == self.find(files) or "derma" in path.casefold()]
        if not paths:
            raise DataError(problem(files.root, "no npz", self.expected, "check --data and --source"))
        opened = [_open(path, files.name(path)) for path in paths]
        arrays = max(opened, key=lambda item: item.side)  # the same photos, of which larger ones show more
        if len(opened) > 1:
            others = shorten([item.name for item in opened if item is not arrays], 4)
            files.issues.note(f"{others}: not read, as {arrays.name} has the same photos, larger")
        files.issues.note(_LEAK)
        return RawDataset(
            source=self.name,
            root=files.root,
            cases=_cases(arrays, files),
            issues=files.issues,
            inputs=files.digests(arrays.path),
            total=sum(arrays.numbers.values()),
        )


SOURCE = DermaMnist()


@dataclass(frozen=True)
class _Arrays:
    """An npz whose headers are read: `numbers` has the photos of each split, which are `side` pixels wide and high."""

    path: str
    name: str
    side: int
    numbers: dict[str, int]


def _has_numbers(path: str) -> bool:
    try:
        return tuple(_open(path, "").numbers.values()) == _SIZES
    except DataError:
        return False


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn what a damaged npz raises into one line."""
    try:
        yield
    except _UNREADABLE as error:
        got = f"a damaged npz ({printable(error)})"
        raise DataError(problem(name, got, "the file that MedMNIST gives", "download it again")) from None


def _open(path: str, name: str) -> _Arrays:
    """Read the headers of all arrays and check them."""
    refuse_pointer(path, name)
    numbers, sides = {}, set()
    with _reading(name), open_regular(path) as file, zipfile.ZipFile(file) as packed:
        for split in _SPLITS:
            with _array(packed, f"{split}_images", name) as (shape, _):
                numbers[split] = shape[0] if len(shape) == 4 else -1
                sides.add(shape[1:])
            with _array(packed, f"{split}_labels", name) as (shape, _):
                if shape not in ((numbers[split], 1), (numbers[split],)):
                    got = f"{split}_images and {split}_labels of other numbers"
                    raise DataError(problem(name, got, "a label per photo", "download it again"))
    side = min(sides)[0]
    if sides != {(side, side, 3)} or side < 1 or side * side > MAX_PIXELS:
        raise DataError(problem(name, f"photos of {shorten(map(str, sides))}", "(side, side, 3)", "is it DermaMNIST?"))
    return _Arrays(path, name, side, numbers)


@contextmanager
def _array(packed: zipfile.ZipFile, key: str, name: str) -> Iterator[tuple[tuple[int, ...], IO[bytes]]]:
    """Open an array of bytes: its shape, and a stream of its values."""
    member = f"{key}.npy"
    if member not in packed.namelist():
        expected = "train_images, train_labels, val_images, val_labels, test_images and test_labels"
        raise DataError(problem(name, f"no {key}", expected, "is it DermaMNIST?"))
    with packed.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, kind = read(stream)
        if kind.hasobject:
            remedy = "download it from MedMNIST: pickled objects can hold code, and are never read"
            raise DataError(problem(name, f"{key} of pickled objects", "an array of bytes", remedy))
        if kind != np.uint8 or is_fortran:
            remedy = "download it from MedMNIST"
            raise DataError(problem(name, f"{key} of {kind}{' by columns' * is_fortran}", "uint8", remedy))
        yield shape, stream


def _cases(arrays: _Arrays, files: SourceFiles) -> Iterator[RawCase]:
    """Yield the cases; each holds the bytes of its own photo, and nothing more is in memory."""
    size = arrays.side * arrays.side * 3
    for key, split in _SPLITS.items():
        with _reading(arrays.name), open_regular(arrays.path) as file, zipfile.ZipFile(file) as packed:
            with _array(packed, f"{key}_labels", arrays.name) as (_, stream):
                labels = _exactly(stream, arrays.numbers[key])
            with _array(packed, f"{key}_images", arrays.name) as (_, stream):
                for number, label in enumerate(labels):
                    data = _exactly(stream, size)
                    where = f"{arrays.name}:{key}_labels[{number}]"
                    if label >= len(CLASSES):
                        line = problem(where, f"class {label}", "0 to 6", "is it DermaMNIST? left out")
                        files.issues.add_loss(line, "cases")
                        continue
                    yield _case(f"{split}_{number:05}", split, label, (_pixels(data, arrays.side), where))
                if stream.read(1):
                    raise ValueError(f"{key}_images holds more than its header says")


def _case(name: str, split: str, label: int, photo: tuple[Callable[[], NDArray[np.uint8]], str]) -> RawCase:
    code, words = CLASSES[label]
    image_id = f"dermamnist_{name}"
    case = Case(
        case_id=image_id,
        split=split,
        image_ids=(image_id,),
        label=code,
        attributes={"class": str(label), "class_name": words},
        licence=DermaMnist.licence,
    )
    return RawCase(case, (RawPhoto(image_id, pixels=photo[0]),), photo[1])


def _pixels(data: bytes, side: int) -> Callable[[], NDArray[np.uint8]]:
    return lambda: np.frombuffer(data, np.uint8).reshape(side, side, 3)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("it ends early")
    return data
