"""`magic prepare`: turn a raw challenge folder into one clean dataset; every loss is listed and counted."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from magic_cli.commands.recording import recorded
from magic_cli.data.imaging.appearance import Appearance, appearance_lines
from magic_cli.data.imaging.images import PhotoSize
from magic_cli.data.imaging.lesion_share import LesionShare, LesionShares, implausible, lesion_share, summary
from magic_cli.data.imaging.masks import MERGES, merge_masks, write_mask
from magic_cli.data.imaging.mean_mask import TrainingMeanMask
from magic_cli.data.imaging.orientation import match_masks
from magic_cli.data.issues import IssueLog, by_kind
from magic_cli.data.manifest import (
    Inputs,
    Orientation,
    PrepareManifest,
    PrepareSettings,
    SplitCounts,
    against_published,
    agreement,
    count,
    digest,
)
from magic_cli.data.prepared import (
    CASES,
    IMAGES,
    MANIFEST,
    MEAN_MASK,
    PAGE,
    QUESTIONS,
    case_row,
    image_row,
)
from magic_cli.data.prompt_lengths import PromptStatistics, prompt_statistics
from magic_cli.data.same_photos import list_same_photos
from magic_cli.data.sources.dermavqa.reader import Challenge, open_challenge
from magic_cli.errors import ConfigError, DataError, WeightsError, problem
from magic_cli.io.files import StrPath, write_atomic, write_text
from magic_cli.io.json_files import write_json, write_jsonl
from magic_cli.io.ownership import check_target
from magic_cli.io.progress import track
from magic_cli.io.staging import replace_results
from magic_cli.metrics.mask_scores import dice
from magic_cli.metrics.overlap import overlap_counts
from magic_cli.models.weights import minilm_dir
from magic_cli.records import SPLITS, Case, ImageRecord, Mask
from magic_cli.report import prepare_page
from magic_cli.report.prepare_text import PrepareResult

_COUNTED = 20_000  # characters of a half of a prompt whose tokens are counted: fifty windows of an encoder

_HALVES = 512  # halves of prompts that are tokenized at a time: tokens take many times the memory of their text


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How `prepare` reads and writes.

    Attributes:
        merge: how annotators' masks become one: "or", "majority", "intersection", or "each" for no merged mask.
        prompt: text of a photo: "qa", "query", "answer" or "fixed" (see `prompt_halves`).
        responses: False leaves the clinicians' responses out of prompts and dataset.
        strict: refuse data with any problem, instead of leaving out and counting what cannot be used.
        overwrite: replace an earlier prepared dataset at `out`.
        dry_run: read and check everything, write nothing.
    """

    merge: str = "or"
    prompt: str = "qa"
    responses: bool = True
    strict: bool = False
    overwrite: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class _Photo:
    """Facts about a photo and its masks, without their pixels.

    `digests` are lines for `digest`; `shares` and `appearances` map names of masks to how much they mark, and to how
    viewers show them if otherwise than stored.
    """

    image_id: str
    size: PhotoSize
    sha256: str
    upright: bool | None
    annotators: Mapping[str, str]
    kinds: tuple[str, ...]
    digests: tuple[str, ...]
    dice: float | None
    shares: Mapping[str, LesionShare]
    appearances: Mapping[str, Appearance]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Target:
    """Where the dataset is written: first to `folder`, which then becomes `root`."""

    folder: Path
    root: Path
    merge: str
    mean: TrainingMeanMask

    def keep(self, image_id: str, split: str, masks: Sequence[Mask]) -> None:
        """Write a photo's merged mask and, for train, add it to the mean; with merge "each", add its masks."""
        if self.merge != "each":
            masks = [merge_masks(masks, self.merge)]
            write_mask(self.folder / _mask_name(image_id), masks[0])
        if split == "train":
            self.mean.add(masks)


@recorded
def prepare(data: StrPath, out: StrPath = "prepared", options: PrepareOptions = PrepareOptions()) -> PrepareResult:
    """Read a raw challenge folder, check all of it, and write the prepared dataset to `out` in one step.

    Args:
        data: folder that holds the challenge's files, at any depth; nothing in it is changed.
        out: folder to write; files in it name photos and annotators' masks by relative paths.
        options: how annotators' masks are merged, what prompts hold, and what may be replaced.

    Raises:
        DataError: nothing usable in `data`, a damaged definitions file, `out` taken; with `strict` every problem.
        ConfigError: an unknown merge rule or prompt.
    """
    data, out = Path(data), Path(out)
    if options.merge not in (*MERGES, "each"):
        raise ConfigError(problem("--merge", options.merge, " or ".join((*MERGES, "each")), "choose one of these"))
    if options.dry_run:
        challenge = open_challenge(data, options.prompt, options.responses)
        return PrepareResult(data, out, _build(challenge, options, None), is_written=False)
    if data.resolve().is_relative_to(out.resolve()):
        raise DataError(problem(out, "the folder that holds --data", "another folder", "choose another --out"))
    check_target(out, "prepare", options.overwrite, (CASES, IMAGES, QUESTIONS, MANIFEST, PAGE, MEAN_MASK))
    challenge = open_challenge(data, options.prompt, options.responses)
    with replace_results(out) as folder:
        target = _Target(folder, out.resolve(), options.merge, TrainingMeanMask())
        return PrepareResult(data, out, _build(challenge, options, target))


def _build(challenge: Challenge, options: PrepareOptions, target: _Target | None) -> PrepareManifest:
    """Check all photos, return the manifest, and write the dataset if a target is given."""
    prompts = prompt_lengths(challenge.cases.values(), challenge.issues)
    if target:
        write_jsonl(target.folder / CASES, map(case_row, challenge.cases.values()))
    has_text = any(any(text.values()) for case in challenge.cases.values() for text in case.texts.values())
    challenge.forget_texts()
    photos = list(_read_photos(challenge, target))
    default = _orientation_rule(photos)
    root = target.root if target else challenge.root
    images = [_record(photo, challenge, root, options.merge, default) for photo in photos]
    list_same_photos(images, challenge.issues)
    if not images and not has_text:
        raise DataError([*by_kind(challenge.issues.problems), _nothing_usable(challenge)])
    settings = PrepareSettings(options.merge, options.prompt, options.responses)
    manifest = _manifest(challenge, photos, settings, count(challenge.cases.values(), images), prompts, default)
    if options.strict and challenge.issues.problems:
        number = len(challenge.issues.problems)
        raise DataError(
            [*by_kind(manifest.problems), f"{number} problems; nothing was written: fix them, or leave out --strict"]
        )
    if target:
        _write(target, challenge, images, manifest, _dices(photos))
    return manifest


def _nothing_usable(challenge: Challenge) -> str:
    cases, photos = f"{len(challenge.cases):,} encounters without any text", f"{len(challenge.owner):,} listed"
    expected = "a photo or a text"
    return problem("data", f"{cases}, 0 of {photos} photos", expected, "complete the folder that --data names")


def _write(
    target: _Target,
    challenge: Challenge,
    images: Sequence[ImageRecord],
    manifest: PrepareManifest,
    dices: Mapping[str, float],
) -> None:
    mean = target.mean.image()
    if mean is not None:
        write_atomic(target.folder / MEAN_MASK, lambda file: mean.save(file, "PNG"))
    write_jsonl(target.folder / IMAGES, (image_row(image, target.root) for image in images))
    if challenge.questions.slots:
        write_json(target.folder / QUESTIONS, challenge.questions.as_json())
    write_text(target.folder / PAGE, prepare_page.html(manifest, images, dices, mean))
    write_json(target.folder / MANIFEST, manifest.to_json())  # last: it marks the dataset as complete


def _read_photos(challenge: Challenge, target: _Target | None) -> Iterator[_Photo]:
    """Yield the usable photos in the order of their encounters; losses go to the challenge's issues."""
    ids = [image_id for image_id in challenge.owner if image_id in challenge.photos]
    workers = min(8, os.cpu_count() or 1)  # decoders release the interpreter lock; eight photos fit into memory
    pool = ThreadPoolExecutor(workers)
    try:
        results = pool.map(lambda image_id: _read_photo(challenge, image_id, target), ids)
        for image_id, result in track(zip(ids, results, strict=True), "photos", len(ids)):
            if isinstance(result, DataError):
                challenge.issues.add_loss(result.problems[0], "images")
                continue
            for line in result.problems:
                challenge.issues.add_loss(line)
            challenge.issues.left_out["masks"] += len(challenge.masks.get(image_id, ())) - len(result.annotators)
            yield result  # with masks or not: the closed questions need none
    finally:
        pool.shutdown(cancel_futures=True)


def _read_photo(challenge: Challenge, image_id: str, target: _Target | None) -> _Photo | DataError:
    paths = challenge.masks.get(image_id, {})
    try:
        photo = match_masks(challenge.photos[image_id], paths, challenge.name)
    except DataError as error:
        return error
    masks = list(photo.masks.values())
    if target and masks:
        target.keep(image_id, challenge.owner[image_id].split, masks)
    return _Photo(
        image_id=image_id,
        size=photo.size,
        sha256=photo.sha256,
        upright=photo.upright,
        annotators=paths if len(photo.masks) == len(paths) else {name: paths[name] for name in photo.masks},
        kinds=tuple(photo.kinds[annotator] for annotator in photo.masks),
        digests=tuple(f"{challenge.name(paths[annotator])} {sha256}" for annotator, sha256 in photo.digests.items()),
        dice=_pairwise_dice(masks),
        shares={challenge.name(paths[annotator]): lesion_share(mask) for annotator, mask in photo.masks.items()},
        appearances={challenge.name(paths[annotator]): seen for annotator, seen in photo.appearances.items()},
        problems=photo.problems,
    )


def _mask_name(image_id: str) -> str:
    return f"masks/{image_id}.tiff"


def _pairwise_dice(masks: Sequence[Mask]) -> float | None:
    """Return the mean Dice over all pairs of annotators, 1.0 for two empty masks; None for fewer than two."""
    values = [dice(*overlap_counts(first, second), if_undefined=1.0) for first, second in combinations(masks, 2)]
    return float(np.mean(values)) if values else None


def _orientation_rule(photos: Iterable[_Photo]) -> bool:
    """Return whether photos with undecided masks are turned upright: whether most decided photos are.

    Where no mask decides, as in a folder of test photos alone, they are turned, as those who draw masks see them.
    """
    decided = [photo.upright for photo in photos if photo.size.orientation != 1 and photo.upright is not None]
    return sum(decided) * 2 > len(decided) or not decided


def _record(photo: _Photo, challenge: Challenge, root: Path, merge: str, default: bool) -> ImageRecord:
    upright = default if photo.upright is None else photo.upright
    height, width = photo.size.upright if upright else photo.size.raw
    case = challenge.owner[photo.image_id]
    return ImageRecord(
        image_id=photo.image_id,
        case_id=case.case_id,
        split=case.split,
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


def _manifest(
    challenge: Challenge,
    photos: Sequence[_Photo],
    settings: PrepareSettings,
    counts: Mapping[str, SplitCounts],
    prompts: PromptStatistics | None,
    default: bool,
) -> PrepareManifest:
    kinds = Counter(kind for photo in photos for kind in photo.kinds)
    for odd, number in sorted(Counter(photo.size.odd for photo in photos if photo.size.odd).items()):
        challenge.issues.note(f"{number:,} {'photo is' if number == 1 else 'photos are'} {odd}")
    orientation = _orientation(photos, default, challenge.issues)
    lesion = _lesion(photos, default, challenge)
    return PrepareManifest(
        settings=settings,
        counts=counts,
        published=against_published(counts),
        left_out={what: challenge.issues.left_out[what] for what in ("cases", "images", "masks", "answers")},
        agreement=agreement(_dices(photos)),
        mask_values=dict(sorted(kinds.items())),
        lesion=lesion,
        orientation=orientation,
        prompts=prompts,
        problems=tuple(challenge.issues.problems),
        notes=tuple(challenge.issues.notes),
        inputs=Inputs(
            files=dict(sorted(challenge.inputs.items())),
            photos=digest(f"{photo.image_id} {photo.sha256}" for photo in photos),
            masks=digest(line for photo in photos for line in photo.digests),
        ),
    )


def _orientation(photos: Sequence[_Photo], default: bool, issues: IssueLog) -> Orientation:
    turned = [photo for photo in photos if photo.size.orientation != 1]
    upright = Counter(photo.upright for photo in turned)
    rule = "upright" if default else "raw"
    if turned:
        masks = f"{upright[False]} match their masks as stored, {upright[True]} when turned upright"
        decided = upright[False] + upright[True]
        why = rule if decided else f"{rule}, as no mask tells: prepare them together with train, whose masks may"
        issues.note(
            f"{len(turned)} photos have an EXIF orientation: {masks}, {upright[None]} are undecided (read as {why})"
        )
    return Orientation(len(turned), upright[False], upright[True], upright[None], rule)


def _lesion(photos: Sequence[_Photo], default: bool, challenge: Challenge) -> dict[str, LesionShares | None]:
    """Return how much of the photos is lesion, by split; report masks that viewers show otherwise, and odd shares."""
    issues = challenge.issues
    for line in appearance_lines(item for photo in photos for item in _appearances(photo, default).items()):
        issues.add_loss(line)
    found: dict[str, LesionShares | None] = {}
    for split in SPLITS:
        own = [photo.shares for photo in photos if challenge.owner[photo.image_id].split == split]
        shares = {name: share for masks in own for name, share in masks.items()}
        found[split] = summary(list(shares.values()))
        odd = implausible(shares)
        if odd:
            expected = "a lesion within each photo, in the median at most 60 % of it"
            issues.add_loss(problem(split, odd, expected, "are the masks inverted, or others? look at them"))
    return found


def _appearances(photo: _Photo, default: bool) -> Mapping[str, Appearance]:
    """Return how viewers show a photo's masks if otherwise than stored: a turn that the photo shares is none."""
    upright = default if photo.upright is None else photo.upright
    turned = 1 if upright else photo.size.orientation
    return {
        name: replace(seen, orientation=1) if seen.orientation == turned else seen
        for name, seen in photo.appearances.items()
    }


def prompt_lengths(cases: Iterable[Case], issues: IssueLog) -> PromptStatistics | None:
    """Return how long prompts are, how many exceed 77 (CLIP) and 256 (MiniLM) tokens, and how much of each half fits.

    Tokens are MiniLM's WordPieces, also as an estimate of CLIP's BPE; of a half, those of the first 20,000 characters.
    Without MiniLM's tokenizer: None, and a note.
    """
    from tokenizers import Tokenizer  # 0.1 s to import: only where tokens are counted

    try:
        tokenizer = Tokenizer.from_file(str(minilm_dir() / "tokenizer.json"))
    except WeightsError as error:
        issues.note(f"prompts were not counted: {error.problems[0]}")
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = list(cases)
    halves = [half[:_COUNTED] for case in rows for half in (case.question, case.answer)]
    lengths: list[int] = []
    for start in range(0, len(halves), _HALVES):
        encoded = tokenizer.encode_batch(halves[start : start + _HALVES], add_special_tokens=False)
        lengths += [len(half.ids) for half in encoded]
    sizes = list(zip(lengths[::2], lengths[1::2], strict=True))
    by_split = {
        split: [size for case, size in zip(rows, sizes, strict=True) if case.split == split] for split in SPLITS
    }
    return prompt_statistics(by_split, "MiniLM WordPiece; stands in for CLIP's BPE")
