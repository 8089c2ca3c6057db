"""Linter: lists all problems of a submission before it is uploaded (the cases of examples/official-scorer.md).

The official scorer crashes at the first bad item, so that neither task is scored, or silently counts it as zero. The
linter reports equal problems together, holds one mask in memory at a time, and never opens photos.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from numpy.typing import NDArray

from magic_cli.data.imaging.appearance import tiff_appearance
from magic_cli.data.imaging.masks import import_tifffile, read_plain
from magic_cli.data.issues import by_kind
from magic_cli.data.limits import claims
from magic_cli.errors import SubmissionError
from magic_cli.io import run_record
from magic_cli.io.file_kinds import system_pattern
from magic_cli.submission.archive import Archive
from magic_cli.submission.expected import Expected, Findings, Size
from magic_cli.submission.lint_answers import lint_answers
from magic_cli.submission.probabilities import PROBABILITIES_FILE
from magic_cli.submission.reader import ANSWERS, MASKS, SUFFIX, Layout, find_layout, image_of, mask_name

_IMAGE = re.compile(r"IMG_[^_]+_[^_.]+")

# none, deflate (two numbers) and packbits: what tifffile decodes without imagecodecs (cases 59 to 62)
_COMPRESSIONS = (1, 8, 32946, 32773)


class Fault(NamedTuple):
    """A problem of a mask file: what it holds, what is expected, how to fix it, and details of this file."""

    got: str
    expected: str
    remedy: str
    detail: str = ""


def lint(archive: Archive, expected: Expected | None, layout: Layout | None = None) -> list[str]:
    """Return one line per kind of problem, [] for a submission that the official scorer reads as intended.

    Args:
        archive: a whole submission, or the predictions of one task where `layout` says which.
        expected: ids, sizes and questions of the split; None leaves completeness, ids and sizes unchecked.
        layout: where the predictions are; None for a whole submission, whose root is then checked too.
    """
    findings = Findings(archive)
    if layout is None:
        try:
            layout = find_layout(archive)
        except SubmissionError as error:
            return [*by_kind(archive.faults), *error.problems]
        _lint_root(findings, layout)
    masks = 0 if layout.masks is None else _lint_masks(findings, layout.masks, expected)
    rows = 0 if layout.answers is None else lint_answers(findings, layout.answers, expected)
    if not masks and not rows and not findings.kinds:
        findings.add(layout.answers or layout.masks or ".", "nothing to score", "masks or answers", "add predictions")
    return findings.lines()


def _lint_root(findings: Findings, layout: Layout) -> None:
    root = f"{MASKS}/ and {ANSWERS} at the root"
    for place, official in ((layout.masks, f"{MASKS}/"), (layout.answers, ANSWERS)):
        if place not in (None, official):
            got = f"{official} at another place"
            findings.add(
                place or ".", got, root, "put both at the root of the zip, as `magic package --seg DIR --cvqa DIR` does"
            )
    if layout.answers is None:
        got, remedy = "no such file", "add it; [] leaves the task out (the official scorer stops without the file)"
        findings.add(ANSWERS, got, "the JSON list of answers", remedy)
    for name in findings.archive.system_files:
        remedy = f"remove it: zip -d FILE '{system_pattern(name)}'"
        findings.add(name, "a file that the system added", "predictions only", remedy)
    for name in findings.archive.members:
        inside = layout.masks is not None and name.startswith(layout.masks) and (layout.masks or image_of(name))
        # other outputs of the commands, which `package` leaves out
        beside = not findings.archive.is_zip and PurePosixPath(name).name in (PROBABILITIES_FILE, run_record.FILE)
        if name != layout.answers and not inside and not beside:
            findings.add(name, "an unknown file", root, "rename it or remove it")


def _lint_masks(findings: Findings, folder: str, expected: Expected | None) -> int:
    """Check names, completeness and every mask; return the number of images covered."""
    covered: dict[str, str] = {}
    for name in sorted(findings.archive.members):
        rest = name[len(folder) :]
        if not name.startswith(folder) or (not folder and "_mask_" not in name):
            continue
        guess = _lint_name(findings, name, rest)
        if expected is not None and guess not in expected.images:
            got, remedy = f"no photo of split {expected.split!r}", "remove it; is --split right?"
            findings.add(name, got, "one mask per photo of the split", remedy)
        covered[guess] = name
        if rest.casefold().endswith((".tif", ".tiff")):
            size = expected.sizes.get(guess) if expected else None
            for fault in _read_faults(findings, name, size):
                findings.add(name, *fault)
    if covered and expected is not None:
        for image in sorted(i for i, needed in expected.images.items() if needed and i not in covered):
            remedy = "predict it (the official scorer stops with KeyError)"
            if image not in expected.sizes:
                remedy = (
                    "its photo was absent: add it, prepare and predict again (the official scorer stops with KeyError)"
                )
            findings.add(folder + mask_name(image), "no such file", "one mask per photo of the split", remedy)
    return len(covered)


def _lint_name(findings: Findings, name: str, rest: str) -> str:
    """Check a mask's folder, extension and suffix; return the image id that is probably meant."""
    base = PurePosixPath(rest)
    guess = image_of(base.name)
    if "/" in rest:
        findings.add(name, "a mask in a sub-folder", f"directly in {MASKS}/", "move it up (officially not found: 0)")
    if guess is None:
        if base.suffix != ".tiff":
            got, remedy = f"extension {base.suffix or '(none)'}", "write it as .tiff (officially not found)"
            findings.add(name, got, ".tiff, in lower case", remedy)
        else:
            remedy = "rename it (the official scorer stops with KeyError: 'sys')"
            findings.add(name, "another suffix", f"IMG_<encounter>_<number>{SUFFIX}", remedy)
        match = _IMAGE.match(base.name)
        guess = match[0] if match else base.stem
    return guess


def _read_faults(findings: Findings, name: str, size: Size | None) -> Iterator[Fault]:
    try:
        with findings.archive.read(name) as data:
            yield from mask_faults(data, size)
    except SubmissionError:
        yield Fault("an unreadable file", "a whole TIFF", "check its permissions, or write it again")


def mask_faults(data: IO[bytes], size: Size | None) -> Iterator[Fault]:
    """Yield the problems of one mask file; `size` is the photo's (H, W), None if unknown."""
    try:
        array = read_plain(data)
        if array is not None:
            yield from _size_faults(array.shape, size)
            yield from _value_faults(array)
            return
        with import_tifffile().TiffFile(data) as file:  # most submissions do not need it
            too_much = claims(file)
            if too_much:
                expected = "at most 200 megapixels and 1 GiB, in this file alone"
                yield Fault("a mask that asks for too much", expected, "check the file", too_much)
                return
            page, shape = file.pages[0], file.series[0].shape
            shape = shape[:2] if len(shape) == 3 and shape[2] == 1 else shape
            if len(file.pages) > 1 and len(shape) == 2:
                remedy = "write the mask alone (the official scorer reads the first page)"
                yield Fault("a mask with another page behind it, such as a thumbnail", "one page", remedy)
            elif len(file.pages) > 1:
                yield Fault("a TIFF of several pages", "one page", "write one 2-D mask (the official scorer stops)")
            elif len(shape) != 2:
                remedy = "write one 2-D channel (the official scorer stops)"
                yield Fault("a mask of another form", "(H, W)", remedy, str(shape))
            elif page.compression not in _COMPRESSIONS:
                kind = getattr(page.compression, "name", str(page.compression))
                remedy = "write it uncompressed or with zlib (the platform may lack imagecodecs)"
                yield Fault("a compression that needs imagecodecs", "none or zlib", remedy, kind)
            else:
                array = file.series[0].asarray()
                yield from _size_faults(shape, size)
                for difference in tiff_appearance(page, array).differences():
                    got = f"{difference.what}: officially read {difference.official}"
                    yield Fault(got, "what viewers show", difference.remedy)
                yield from _value_faults(array)
    except Exception as error:  # decoders have no common base class of errors
        remedy = "write it again (the official scorer stops)"
        yield Fault("an unreadable file", "a whole TIFF", remedy, type(error).__name__)


def _size_faults(shape: tuple[int, ...], size: Size | None) -> Iterator[Fault]:
    if size is not None and shape != size:
        detail = f"{shape} instead of {size}"
        if shape == size[::-1]:
            remedy = "apply the photo's EXIF orientation (officially scored silently, and wrong)"
            yield Fault("transposed: (W, H) instead of (H, W)", "the photo's (H, W)", remedy, detail)
        else:
            yield Fault("another size", "the photo's (H, W)", "resize it (the official scorer stops)", detail)


def _value_faults(array: NDArray[Any]) -> Iterator[Fault]:
    expected, zero = "0 and 1 only", "(officially only 1 counts: a silent 0)"
    if not array.size or array.dtype.kind not in "buif":
        yield Fault("another type", "uint8", "write uint8 {0, 1}", str(array.dtype))
        return
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and low >= 0 and high <= 1 and not ((array == 0) | (array == 1)).all():
        yield Fault("probabilities", expected, f"cut them at 0.5 and write uint8 {zero}", f"{low:.2g}..{high:.2g}")
    elif not ((array == 0) | (array == high)).all() or high not in (0, 1, 255):
        yield Fault("values other than 0 and 1", expected, f"write uint8 {{0, 1}} {zero}", f"{low:g}..{high:g}")
    elif high == 255:
        yield Fault("values {0, 255}", expected, f"divide by 255 {zero}")
    elif high == 0:
        remedy = "keep the likeliest pixels (one annotator's empty mask makes the official means NaN)"
        yield Fault("an empty mask", "at least one foreground pixel", remedy)
