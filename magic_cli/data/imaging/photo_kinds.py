"""What a file is, told from its first bytes, for messages about files that are no photos."""

import codecs
import re

from magic_cli.io.file_kinds import content

HEAD = 512  # bytes that decide

# what Pillow reads as a photo here (data/imaging/images.py), by the bytes that such a file begins with
_PHOTO = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|BM|II\*\0|MM\0\*|II\+\0|MM\0\+|RIFF....WEBP|....ftypavi[fs]", re.DOTALL
)

_PATTERNS = (
    (rb"....ftyp(?:hei[cxms]|hev[cxms])", "HEIC"),
    (rb"....ftyp(?:mif1|msf1).*?(?:hei[cxms]|hev[cxms])", "HEIC"),
    (rb"....ftyp(?:avi[fs]|mif1.*?avif)", "AVIF"),
    (rb"....ftypcrx ", "a camera's raw file"),
    (rb"....ftyp", "a video"),
    (rb"FUJIFILMCCD-RAW|IIU\0|IIR[OS]|II\*\0....CR", "a camera's raw file"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL"),
    (rb"\xef?\xbb?\xbf?\s*%PDF-", "a PDF"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"8BPS", "a Photoshop file"),
    (rb"\0\0\x01\0.\0?", "an icon (ICO)"),
    (rb".{128}DICM", "DICOM"),
    (rb"\0\x05\x16[\x00\x07]", "a macOS sidecar file"),
    (rb"SQLite format 3|\x7fELF|MZ", "a program or database"),
    (rb"version https://git-lfs", "a Git LFS pointer"),
    (rb"\xef?\xbb?\xbf?\s*(?:<\?xml.*)?\s*(?:<!doctype svg|<svg)", "SVG"),
    (rb"\xef?\xbb?\xbf?\s*(?:<!--.*?-->\s*)?<(?:!doctype html|html|head|body|title)", "a web page"),
    (rb"\xef?\xbb?\xbf?\s*<\?xml", "XML"),
)

_KINDS = tuple((re.compile(pattern, re.DOTALL | re.IGNORECASE), name) for pattern, name in _PATTERNS)

_PICTURES = ("HEIC", "JPEG 2000", "JPEG XL", "a camera's raw file", "DICOM", "a Photoshop file", "SVG", "a PDF")

_REMEDIES = {
    **dict.fromkeys(_PICTURES, "convert it to JPEG"),
    "a Git LFS pointer": "run `git lfs pull`",
    "a web page": "download the photo again: this is what the server answered",
    **dict.fromkeys(("an empty file", "a file of zeros"), "copy or download it again"),
}

_TEXT = re.compile(rb"[\t\n\r\f\x20-\x7e\x80-\xff]+")


def is_photo(head: bytes) -> bool:
    """Return whether a file begins as a photo of a format that is read, given its first HEAD bytes."""
    return _PHOTO.match(head) is not None


def kind_of(head: bytes) -> str:
    """Return what a file is that is no photo, for people, "" if its first HEAD bytes do not tell.

    >>> kind_of(b"%PDF-1.7"), kind_of(b""), kind_of(b"itching since Monday")
    ('a PDF', 'an empty file', 'a text file')
    """
    head = head[:HEAD]
    if not head:
        return "an empty file"
    if not head.strip(b"\0"):
        return "a file of zeros"
    found = next((name for pattern, name in _KINDS if pattern.match(head)), "")
    if found or is_photo(head):
        return found
    found = content(head)
    if found:
        return found
    return "a text file" if _TEXT.fullmatch(head) and _is_utf8(head) else ""


def remedy_for(kind: str) -> str:
    """Return what to do about a file of a kind that `kind_of` named."""
    return _REMEDIES.get(kind, "put the photo itself there")


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True
