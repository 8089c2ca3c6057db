"""`magic prepare`: a raw challenge folder becomes one clean dataset, with every loss listed and counted."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from magic_cli.data.images import PhotoSize
from magic_cli.data.issues import Ledger
from magic_cli.data.manifest import against_published, agreement, count, digest
from magic_cli.data.masks import MERGES, merge_masks, write_mask
from magic_cli.data.mean_mask import MeanMask
from magic_cli.data.orientation import fit
from magic_cli.data.prepared import (
    CASES,
    FORMAT,
    IMAGES,
    MANIFEST,
    MEAN_MASK,
    PAGE,
    QUESTIONS,
    case_row,
    image_row,
)
from magic_cli.data.prompt_lengths import WIDTH, WINDOWS, exceeding, length_histogram, window_use
from magic_cli.data.sources.dermavqa.reader import Challenge, open_challenge
from magic_cli.errors import ConfigError, DataError, WeightsError, problem
from magic_cli.io.files import write_atomic, write_json, write_jsonl, write_text
from magic_cli.io.progress import track
from magic_cli.io.staging import check_target, staged
from magic_cli.metrics.overlap import dice, overlap_counts
from magic_cli.models.weights import minilm_dir
from magic_cli.records import SPLITS, Case, ImageRecord, Mask
from magic_cli.report import prepare_page
from magic_cli.report.prepare_text import summary as summary

_HALVES = 512  # prompts' halves that are tokenized at a time: tokens take many times the memory of their text


@dataclass(frozen=True, slots=True)
class _Photo:
    """What is known of a photo once it and its masks were read: no pixels. `digests` are lines for `digest`."""

    image_id: str
    size: PhotoSize
    sha256: str
    upright: bool | None
    annotators: Mapping[str, str]
    kinds: tuple[str, ...]
    digests: tuple[str, ...]
    dice: float | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Target:
    """Where the dataset is written now, `folder`, and where it will be found, `root`."""

    folder: Path
    root: Path
    merge: str
    mean: MeanMask

    def keep(self, image_id: str, split: str, masks: Sequence[Mask]) -> None:
        """Write a photo's merged mask and, of train, add it to the mean; with merge "each" its masks are added."""
        if self.merge != "each":
            masks = [merge_masks(masks, self.merge)]
            write_mask(self.folder / _mask_name(image_id), masks[0])
        if split == "train":
            self.mean.add(masks)


def prepare(
    data: Path,
    out: Path,
    *,
    merge: str = "or",
    prompt: str = "qa",
    responses: bool = True,
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Read a raw challenge folder, check all of it, and write the prepared dataset to `out` in one step.

    Args:
        data: folder that holds the challenge's files, at any depth; nothing in it is changed.
        out: folder to write; files in it name photos and annotators' masks by relative paths.
        merge: how annotators' masks become one: "or", "majority", "intersection", or "each" for no merged mask.
        prompt: "qa", "query", "answer" or "fixed" (see `prompt_halves`).
        responses: False leaves the clinicians' responses out of prompts and dataset.
        strict: refuse data with any problem, instead of leaving out what is lost and counting it.
        overwrite: replace an earlier prepared dataset at `out`.
        dry_run: find and check everything, write nothing.

    Returns:
        The manifest, as in prepare.json (schemas/prepared.schema.json); `summary` makes it readable.

    Raises:
        DataError: nothing usable in `data`, a damaged definitions file, `out` taken; with `strict` every problem.
        ConfigError: an unknown merge rule or prompt.
    """
    if merge not in (*MERGES, "each"):
        raise ConfigError(problem("--merge", merge, " or ".join((*MERGES, "each")), "choose one of these"))
    settings = {"merge": merge, "prompt": prompt, "responses": responses}
    if dry_run:
        challenge = open_challenge(data, prompt, responses)
        return _build(challenge, settings, None, strict)
    check_target(out, data, MANIFEST, overwrite)
    challenge = open_challenge(data, prompt, responses)
    with staged(out) as folder:
        return _build(challenge, settings, _Target(folder, out.resolve(), merge, MeanMask()), strict)


def _build(challenge: Challenge, settings: dict[str, Any], target: _Target | None, strict: bool) -> dict[str, Any]:
    """Check all photos, return the manifest, and write the dataset where a target is given."""
    prompts = prompt_lengths(challenge.cases.values(), challenge.ledger)
    if target:
        write_jsonl(target.folder / CASES, map(case_row, challenge.cases.values()))
    challenge.forget_texts()
    photos = list(_read_photos(challenge, target))
    default = _orientation_rule(photos)
    root = target.root if target else challenge.root
    images = [_record(photo, challenge, root, settings["merge"], default) for photo in photos]
    counts = count(challenge.cases.values(), images)
    manifest = _manifest(challenge, photos, {"settings": settings, "counts": counts, "prompts": prompts})
    if strict and challenge.ledger.problems:
        lost = f"{len(challenge.ledger.problems)} problems; nothing was written: mend them, or leave out --strict"
        raise DataError([*challenge.ledger.problems, lost])
    if target:
        _write(target, challenge, images, manifest, _dices(photos))
    return manifest


def _write(
    target: _Target,
    challenge: Challenge,
    images: Sequence[ImageRecord],
    manifest: dict[str, Any],
    dices: Mapping[str, float],
) -> None:
    mean = target.mean.image()
    if mean is not None:
        write_atomic(target.folder / MEAN_MASK, lambda file: mean.save(file, "PNG"))
    write_jsonl(target.folder / IMAGES, (image_row(image, target.root) for image in images))
    if challenge.questions.slots:
        write_json(target.folder / QUESTIONS, challenge.questions.as_json())
    write_text(target.folder / PAGE, prepare_page.html(manifest, images, dices, mean))
    write_json(target.folder / MANIFEST, manifest)  # last: its presence says that the rest is there


def _read_photos(challenge: Challenge, target: _Target | None) -> Iterator[_Photo]:
    """Yield the usable photos in the order of their encounters; losses go to the challenge's ledger."""
    ids = [image_id for image_id in challenge.owner if image_id in challenge.photos]
    workers = min(8, os.cpu_count() or 1)  # decoders release the interpreter lock; eight photos fit into memory
    pool = ThreadPoolExecutor(workers)
    try:
        results = pool.map(lambda image_id: _read_photo(challenge, image_id, target), ids)
        for image_id, result in track(zip(ids, results, strict=True), "photos", len(ids)):
            if isinstance(result, DataError):
                challenge.ledger.lose(result.problems[0], "images")
                continue
            for line in result.problems:
                challenge.ledger.lose(line, "masks")
            if result.problems and not result.annotators and challenge.owner[image_id].split != "test":
                line = problem(image_id, "no usable mask", "at least one", "mend its masks; the photo is left out")
                challenge.ledger.lose(line, "images")
            else:
                yield result
    finally:
        pool.shutdown(cancel_futures=True)


def _read_photo(challenge: Challenge, image_id: str, target: _Target | None) -> _Photo | DataError:
    paths = challenge.masks.get(image_id, {})
    try:
        found = fit(challenge.photos[image_id], paths, challenge.name)
    except DataError as error:
        return error
    masks = list(found.masks.values())
    if target and masks:
        target.keep(image_id, challenge.owner[image_id].split, masks)
    return _Photo(
        image_id,
        found.size,
        found.sha256,
        found.upright,
        paths if len(found.masks) == len(paths) else {annotator: paths[annotator] for annotator in found.masks},
        tuple(found.kinds[annotator] for annotator in found.masks),
        tuple(f"{challenge.name(paths[annotator])} {sha256}" for annotator, sha256 in found.digests.items()),
        _pairwise_dice(masks),
        found.problems,
    )


def _mask_name(image_id: str) -> str:
    return f"masks/{image_id}.tiff"


def _pairwise_dice(masks: Sequence[Mask]) -> float | None:
    """Return the mean Dice over all pairs of annotators, 1.0 for two empty masks; None for fewer than two."""
    values = [dice(*overlap_counts(first, second), if_undefined=1.0) for first, second in combinations(masks, 2)]
    return float(np.mean(values)) if values else None


def _orientation_rule(photos: Iterable[_Photo]) -> bool:
    """Return whether photos whose masks cannot tell are turned upright: as most photos whose masks can."""
    told = [photo.upright for photo in photos if photo.size.orientation != 1 and photo.upright is not None]
    return sum(told) * 2 > len(told)


def _record(photo: _Photo, challenge: Challenge, root: Path, merge: str, default: bool) -> ImageRecord:
    upright = default if photo.upright is None else photo.upright
    height, width = photo.size.upright if upright else photo.size.raw
    encounter = challenge.owner[photo.image_id]
    return ImageRecord(
        image_id=photo.image_id,
        case_id=encounter.case_id,
        split=encounter.split,
        path=challenge.photos[photo.image_id],
        height=height,
        width=width,
        upright=upright,
        mask=str(root / _mask_name(photo.image_id)) if photo.annotators and merge != "each" else None,
        annotators=photo.annotators,
        sha256=photo.sha256,
    )


def _dices(photos: Iterable[_Photo]) -> dict[str, float]:
    return {photo.image_id: photo.dice for photo in photos if photo.dice is not None}


def _manifest(challenge: Challenge, photos: Sequence[_Photo], known: dict[str, Any]) -> dict[str, Any]:
    """Return prepare.json: no date and no absolute path, so that the same inputs give the same bytes."""
    kinds = Counter(kind for photo in photos for kind in photo.kinds)
    for odd, number in sorted(Counter(photo.size.odd for photo in photos if photo.size.odd).items()):
        challenge.ledger.note(f"{number:,} {'photo is' if number == 1 else 'photos are'} {odd}")
    return {
        "schema": FORMAT,
        "format": "magic-prepared",
        "settings": known["settings"],
        "counts": known["counts"],
        "published": against_published(known["counts"]),
        "left_out": {what: challenge.ledger.left_out[what] for what in ("cases", "images", "masks", "answers")},
        "agreement": agreement(_dices(photos)),
        "mask_values": dict(sorted(kinds.items())),
        "orientation": _orientation(photos, challenge.ledger),
        "prompts": known["prompts"],
        "problems": challenge.ledger.problems,
        "notes": challenge.ledger.notes,
        "inputs": {
            "files": dict(sorted(challenge.inputs.items())),
            "photos": digest(f"{photo.image_id} {photo.sha256}" for photo in photos),
            "masks": digest(line for photo in photos for line in photo.digests),
        },
    }


def _orientation(photos: Sequence[_Photo], ledger: Ledger) -> dict[str, Any]:
    turned = [photo for photo in photos if photo.size.orientation != 1]
    told = Counter(photo.upright for photo in turned)
    rule = "upright" if _orientation_rule(photos) else "raw"
    if turned:
        told_by = f"{told[False]} masks lie on the photo as stored, {told[True]} on the upright one"
        ledger.note(
            f"{len(turned)} photos have an EXIF orientation: {told_by}, {told[None]} cannot tell (taken as {rule})"
        )
    return {"photos": len(turned), "raw": told[False], "upright": told[True], "undecided": told[None], "rule": rule}


def prompt_lengths(encounters: Iterable[Case], ledger: Ledger) -> dict[str, Any] | None:
    """Return how long prompts are, how many exceed 77 (CLIP) and 256 (MiniLM) tokens, and what is kept of each half.

    Tokens are MiniLM's WordPieces, which stand in for CLIP's BPE too. See `window_use` and `length_histogram`.
    None, and a note, without MiniLM's tokenizer.
    """
    from tokenizers import Tokenizer  # 0.1 s to import: only where tokens are counted

    try:
        tokenizer = Tokenizer.from_file(str(minilm_dir() / "tokenizer.json"))
    except WeightsError as error:
        ledger.note(f"prompts were not counted: {error.problems[0]}")
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = list(encounters)
    halves = [half for row in rows for half in (row.question, row.answer)]
    found: list[int] = []
    for start in range(0, len(halves), _HALVES):
        tokens = tokenizer.encode_batch(halves[start : start + _HALVES], add_special_tokens=False)
        found += [len(one.ids) for one in tokens]
    sizes = list(zip(found[::2], found[1::2], strict=True))
    splits = {split: [size for row, size in zip(rows, sizes, strict=True) if row.split == split] for split in SPLITS}
    return {
        "tokenizer": "MiniLM WordPiece; stands in for CLIP's BPE",
        "windows": [
            window_use(sizes, tokens)
            | {"model": model, "exceed_by_split": {split: exceeding(of, tokens) for split, of in splits.items()}}
            for tokens, model in WINDOWS
        ],
        "lengths": {"width": WIDTH, **{split: length_histogram(of) for split, of in splits.items()}},
    }
