"""What fuzz.py reads mutated files with: each reader of files, sound files to begin with, and how they are changed."""

import io
import json
import random
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "builders"))

import numpy as np
import tifffile
from challenge_folders import answers_row, encounter_row, make_challenge
from PIL import Image
from tiny_dataset import ANSWERS, files_of, make_prepared

from magic_cli.data.imaging.fast_tiff import read_simple_tiff
from magic_cli.data.imaging.images import check_photo, open_photo
from magic_cli.data.imaging.masks import decode_mask, read_raw, read_stored
from magic_cli.data.prepared import open_prepared
from magic_cli.data.questions import FALLBACK, parse_questions
from magic_cli.data.sources.dermavqa.reader import open_challenge
from magic_cli.errors import MagicError
from magic_cli.io.json_files import read_json
from magic_cli.submission.archive import open_archive
from magic_cli.submission.expected import expected_of
from magic_cli.submission.lint import lint, mask_faults
from magic_cli.submission.reader import open_predictions

Random = random.Random
NUMBERS = (0, 1, 2, 7, 8, 255, 256, 32773, 34925, 65535, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
TOKENS = (
    b"..",
    b"/",
    b"\0",
    b"\xff" * 4,
    b"II*\0",
    b"PK\x05\x06",
    b"<OME",
    b'"',
    b"[",
    b"{",
    b"NaN",
    b"1e999",
    b"\\ud800",
)
WORDS: tuple[Any, ...] = (
    *(None, True, 0, -1, 7, 10**30, 1.5, float("nan"), float("inf"), "", " ", "x", "..", "a/b", "\x1b[2J", "\ud800"),
    *([], [[]], {}, {"a": []}, "ENC00001", "train", "=1+1", "皮疹", "x" * 3000),
)


def mutate(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """Return a seed with one to six changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(data) + 1)
        # half of the changes are in the first bytes, where headers are
        at = at if rng.random() < 0.5 else at % 400
        match rng.randrange(9):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at % len(data)] = rng.randrange(256)
            case 2:
                del data[at : at + rng.choice((1, 4, 50, len(data)))]
            case 3:
                data[at:at] = rng.randbytes(rng.choice((1, 2, 8, 200)))
            case 4:
                size = rng.choice((2, 4, 8))
                number = rng.choice(NUMBERS) % 2 ** (8 * size)
                data[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
            case 5:
                data[at:at] = rng.choice(TOKENS)
            case 6:
                other = rng.choice(seeds)
                data[at:] = other[rng.randrange(len(other) + 1) :]
            case 7:
                data[at:at] = data[at : at + rng.choice((4, 12, 100))]
            case _:
                del data[at:]
    return bytes(data)


def meddle(rng: Random, value: Any) -> Any:
    """Return a JSON value with one place replaced, removed, doubled or renamed."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.15:
        return rng.choice(WORDS)
    made: Any = value.copy()
    key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    match rng.randrange(5):
        case 0:
            del made[key]
        case 1 if isinstance(made, dict):
            made[str(rng.choice(WORDS))] = made.pop(key)
        case 1:
            made.insert(key, made[key])
        case _:
            made[key] = meddle(rng, value[key])
    return made


class Reader:
    """A reader under test: `seeds` are sound files, `read` takes a mutated one's bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.path = folder / "file"

    seeds: Sequence[bytes] = ()

    def make(self, rng: Random) -> bytes:
        return mutate(rng, self.seeds)

    def read(self, data: bytes) -> None:
        raise NotImplementedError


def tiffs() -> list[bytes]:
    rng, mask = np.random.default_rng(0), np.zeros((24, 32), np.uint8)
    mask[4:12, 3:16] = 1
    found = []
    for options in ({}, {"compression": "zlib"}, {"metadata": None}, {"rowsperstrip": 5}, {"tile": (16, 16)},
                    {"byteorder": ">"}, {"bigtiff": True}, {"compression": "zlib", "predictor": 2}):  # fmt: skip
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, mask, **options)
        found.append(buffer.getvalue())
    packed = ("tiff_lzw", "packbits", "tiff_adobe_deflate")
    found += [saved(Image.fromarray(mask), "TIFF", compression=c) for c in packed]
    found += [saved(Image.fromarray(mask.astype(bool)), "TIFF", compression=c) for c in ("group3", "group4", None)]
    for array in (mask.astype(np.float32), rng.random((24, 32)), np.stack([mask] * 3, -1), np.stack([mask] * 2)):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, photometric="minisblack")
        found.append(buffer.getvalue())
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.stack([mask] * 2), ome=True, metadata={"axes": "ZYX"})
    return [*found, buffer.getvalue(), saved(Image.fromarray(mask), "PNG")]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class Tiff(Reader):
    """data/imaging/masks.py, fast_tiff.py and the linter; what both our reader and tifffile read is the same array."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.seeds = tiffs()

    def read(self, data: bytes) -> None:
        list(mask_faults(io.BytesIO(data), (24, 32)))
        plain = read_simple_tiff(data)
        self.path.write_bytes(data)
        try:
            stored = read_stored(io.BytesIO(data), "m.tiff").array
            of_file = read_stored(self.path, "m.tiff").array
        except MagicError:
            if plain is not None:
                raise AssertionError("our own reader reads what tifffile refuses") from None
            raise
        assert np.array_equal(stored, of_file, equal_nan=stored.dtype.kind in "fc")
        assert plain is None or np.array_equal(plain, stored)
        mask, _ = decode_mask(read_raw(io.BytesIO(data), "m.tiff"), "m.tiff")
        assert set(np.unique(mask)) <= {0, 1}


class Photo(Reader):
    """data/imaging/images.py."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        rng = np.random.default_rng(0)
        photo = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
        exif = Image.Exif()
        exif[274] = 6
        kinds = [("JPEG", {}), ("JPEG", {"exif": exif, "progressive": True}), ("PNG", {}), ("WEBP", {}), ("GIF", {})]
        self.seeds = [saved(photo, kind, **options) for kind, options in [*kinds, ("BMP", {}), ("TIFF", {})]]
        self.seeds += [saved(photo.convert("CMYK"), "JPEG"), saved(photo.convert("P"), "PNG", transparency=3)]
        self.seeds += [saved(photo, "GIF", save_all=True, append_images=[photo.rotate(9)])]
        self.path = folder / "photo.jpg"

    def read(self, data: bytes) -> None:
        self.path.write_bytes(data)
        size, _ = check_photo(str(self.path), "photo.jpg")
        image = open_photo(self.path, upright=True)
        assert image.mode == "RGB"
        assert image.size == size.upright[::-1]


class Zip(Reader):
    """submission/archive.py, submission/reader.py, the linter."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.expected = expected_of(open_prepared(make_prepared(folder / "prepared")), "valid")
        self.path = folder / "s.zip"
        self.seeds = []
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", method) as file:
                for name, data in files_of("valid").items():
                    file.writestr(name, data)
            self.seeds.append(buffer.getvalue())

    def read(self, data: bytes) -> None:
        self.path.write_bytes(data)
        with open_archive(self.path) as archive:
            lint(archive, self.expected)
        with open_predictions(self.path) as submission:
            list(submission.submitted_masks())


class Answers(Zip):
    """The rows of a submission: any JSON in place of each value."""

    def make(self, rng: Random) -> bytes:
        rows = json.loads(files_of("valid")[ANSWERS])
        for _ in range(rng.choice((1, 2, 5))):
            rows = meddle(rng, rows)
        return json.dumps(rows).encode()

    def read(self, data: bytes) -> None:
        self.path.with_name(ANSWERS).write_bytes(data)
        with open_archive(self.path.with_name(ANSWERS)) as archive:
            assert all(line.isprintable() for line in lint(archive, self.expected))
        with open_predictions(self.path.with_name(ANSWERS)) as found:
            assert isinstance(found.rows, list)


class Tables(Reader):
    """data/sources/dermavqa/reader.py: rows of encounters, answers and definitions, and their bytes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        make_challenge(folder / "raw", photos=False)
        self.rows = {
            "train.json": [encounter_row(1, ["IMG_ENC00001_00001.jpg"]), encounter_row(2, ["IMG_ENC00002_00001.jpg"])],
            "train_cvqa.json": [answers_row(1), answers_row(2)],
            "closedquestions_definitions_imageclef2025.json": read_json(FALLBACK),
        }

    def make(self, rng: Random) -> bytes:
        name = rng.choice(list(self.rows))
        rows: Any = self.rows[name]
        for _ in range(rng.choice((1, 1, 2, 4))):
            rows = meddle(rng, rows)
        data = json.dumps(rows).encode()
        return name.encode() + b"\n" + (mutate(rng, [data]) if rng.random() < 0.3 else data)

    def read(self, data: bytes) -> None:
        name, _, text = data.partition(b"\n")
        raw = self.folder / "raw"
        for other, rows in self.rows.items():
            (raw / other).write_bytes(text if other.encode() == name else json.dumps(rows).encode())
        found = open_challenge(raw)
        assert all(line.isprintable() for line in [*found.issues.problems, *found.issues.notes])
        parse_questions(found.questions.as_json(), "again")


class Dataset(Reader):
    """data/prepared.py: rows and manifest."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.root = make_prepared(folder / "prepared")
        self.files = {p.name: p.read_bytes() for p in self.root.iterdir() if p.is_file()}

    def make(self, rng: Random) -> bytes:
        name = rng.choice(list(self.files))
        data = self.files[name]
        if rng.random() < 0.7:
            lines = data.splitlines() if name.endswith("l") else [data]
            at = rng.randrange(len(lines))
            lines[at] = json.dumps(meddle(rng, json.loads(lines[at]))).encode()
            data = b"\n".join(lines)
        else:
            data = mutate(rng, [data])
        return name.encode() + b"\n" + data

    def read(self, data: bytes) -> None:
        name, _, text = data.partition(b"\n")
        for other, sound in self.files.items():
            (self.root / other).write_bytes(text if other.encode() == name else sound)
        found = open_prepared(self.root)
        assert all("/" not in image and image not in (".", "..") for image in found.images)


class Checkpoint(Reader):
    """training/checkpoint.py: best.pt as bytes and as meta data."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import torch

        from magic_cli.training.checkpoint import FORMAT

        meta = {"format": FORMAT, "task": "seg", "config": {}, "questions": [], "encoders": {}, "history": []}
        self.meta = meta | {"score": None, "seed": 0, "manifest_sha256": "", "versions": {}}
        self.weights = {"head.weight": torch.zeros(3, 2), "head.bias": torch.ones(2)}
        self.path = folder / "best.pt"
        self.seeds = [self.stored(self.meta)]

    def stored(self, meta: Any) -> bytes:
        import torch

        buffer = io.BytesIO()
        torch.save({"meta": json.dumps(meta), "weights": self.weights}, buffer)
        return buffer.getvalue()

    def make(self, rng: Random) -> bytes:
        return mutate(rng, self.seeds) if rng.random() < 0.6 else self.repacked(rng)

    def repacked(self, rng: Random) -> bytes:
        """A sound zip around a mutated pickle, or mutated meta data: what checksums alone do not notice."""
        if rng.random() < 0.5:
            return self.stored(meddle(rng, self.meta))
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(self.seeds[0])) as old, zipfile.ZipFile(buffer, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                new.writestr(name, mutate(rng, [data]) if name.endswith(".pkl") else data)
        return buffer.getvalue()

    def read(self, data: bytes) -> None:
        from magic_cli.training import checkpoint

        self.path.write_bytes(data)
        checkpoint.load_best(self.path)


READERS: dict[str, type[Reader]] = {
    "tiff": Tiff,
    "photo": Photo,
    "zip": Zip,
    "answers": Answers,
    "tables": Tables,
    "dataset": Dataset,
    "checkpoint": Checkpoint,
}
