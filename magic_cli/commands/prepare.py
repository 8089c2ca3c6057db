"""`magic prepare`: turn a raw dataset into one clean, prepared dataset; every loss is listed and counted."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from magic_cli.commands.prompt_counter import PromptCounter
from magic_cli.commands.recording import recorded
from magic_cli.data.imaging.appearance import appearance_lines
from magic_cli.data.imaging.lesion_share import LesionShare, LesionShares, implausible, summary
from magic_cli.data.imaging.masks import MERGES
from magic_cli.data.issues import by_kind
from magic_cli.data.manifest import (
    Inputs,
    Orientation,
    PrepareManifest,
    PrepareSettings,
    against_published,
    agreement,
    digest,
)
from magic_cli.data.preparation.case_texts import CaseTexts, TextOptions
from magic_cli.data.preparation.counts import Counts
from magic_cli.data.preparation.final import FinalDataset
from magic_cli.data.preparation.gather import Gatherer
from magic_cli.data.preparation.overview_counter import OverviewCounter
from magic_cli.data.preparation.photos import Reader, written_names
from magic_cli.data.preparation.plan import PlanOptions, plan
from magic_cli.data.preparation.splits import SplitRule
from magic_cli.data.preparation.store import CaseStore
from magic_cli.data.prepared import CASES, IMAGES, MANIFEST, MEAN_MASK, PAGE, QUESTIONS, case_row, image_row
from magic_cli.data.prompt_lengths import PromptStatistics
from magic_cli.data.shards.shard_plan import ShardPlan, ShardPlanner, check_shards
from magic_cli.data.shards.tar_writer import FOLDER as SHARDS
from magic_cli.data.shards.tar_writer import check_room, sizes_of, write_shards
from magic_cli.data.sources import open_source
from magic_cli.data.sources.generic.mapping import parse_mapping
from magic_cli.data.sources.source import RawDataset, ReadOptions
from magic_cli.data.sources.walk import below
from magic_cli.errors import ConfigError, DataError, problem, shorten
from magic_cli.io.files import StrPath, write_atomic, write_text
from magic_cli.io.json_files import write_json, write_jsonl
from magic_cli.io.ownership import check_target
from magic_cli.io.progress import track
from magic_cli.io.staging import replace_results
from magic_cli.records import SPLITS
from magic_cli.report.preparation import page as prepare_page
from magic_cli.report.preparation.duplicate_pictures import duplicates_to_show
from magic_cli.report.preparation.text import PrepareResult

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How `prepare` reads and writes.

    Attributes:
        merge: how annotators' masks become one: "or", "majority", "intersection", or "each" for no merged mask.
        prompt: text of a photo: "qa", "query", "answer" or "fixed" (see `prompt_halves`), or a step of the
            ladder, "p0" to "p9" (data/texts/prompt_ladder.py).
        responses: False leaves the clinicians' responses out of prompts and dataset.
        strict: refuse data with any problem, instead of leaving out and counting what cannot be used.
        overwrite: replace an earlier prepared dataset at `out`.
        dry_run: read and check everything, write nothing.
        source: name of the dataset's adapter; "" finds out.
        valid: share of the cases for valid where splits are dealt (data/preparation/splits.py says where).
        test: share of the cases for test.
        split_by: the group that is never divided: "patient", "lesion", "case" or an attribute; "" for the source's.
        seed: for dealing.
        mapping: "image=COLUMN", "label=COLUMN", ...: which column of a table is what (data/sources/generic/mapping.py).
        join: a second table, whose rows are matched with the names of photos or the ids of cases.
        texts: which texts are made of labels, attributes and captions, and what queries tell.
        duplicates: "group": cases that share a photo are never divided between dealt splits and folds; "drop": all
            but one of duplicate photos are left out; "keep": they are listed alone.
        shards: number of WebDataset tars that the pairs are also written into, below `out`/shards; 0 for none.
    """

    merge: str = "or"
    prompt: str = "qa"
    responses: bool = True
    strict: bool = False
    overwrite: bool = False
    dry_run: bool = False
    source: str = ""
    mapping: tuple[str, ...] = ()
    join: StrPath | None = None
    valid: float = 0.15
    test: float = 0.15
    split_by: str = ""
    seed: int = 0
    texts: TextOptions = field(default_factory=TextOptions)
    duplicates: str = "group"
    shards: int = 0

    @property
    def plan(self) -> PlanOptions:
        """The options that say how cases are grouped and dealt."""
        return PlanOptions(SplitRule(self.valid, self.test, self.seed), self.split_by, self.duplicates)


@recorded
def prepare(data: StrPath, out: StrPath = "prepared", options: PrepareOptions = PrepareOptions()) -> PrepareResult:
    """Read a raw dataset, the challenge's or another one, check all of it, and write `out` in one step.

    Args:
        data: folder that holds the dataset's files, at any depth; nothing in it is changed.
        out: folder to write; files in it name photos and annotators' masks by relative paths.
        options: which dataset it is, how masks are merged, how splits are dealt, which texts are made, and more.

    Raises:
        DataError: nothing usable in `data`, several datasets, a damaged definitions file, `out` taken; with `strict`
            every problem.
        ConfigError: an unknown merge rule, prompt or attribute, or shares that leave nothing for train.
    """
    data, out = Path(data), Path(out)
    if options.merge not in (*MERGES, "each"):
        raise ConfigError(problem("--merge", options.merge, " or ".join((*MERGES, "each")), "choose one of these"))
    options.plan.check()
    options.texts.check()
    check_shards(options.shards)
    planner = ShardPlanner(options.shards)
    joined = str(options.join) if options.join else ""
    reading = ReadOptions(parse_mapping(options.mapping), joined, options.prompt, options.responses)
    if options.dry_run:
        raw = open_source(data, reading, options.source)
        manifest = _build(raw, options, None, raw.root, planner)
        return PrepareResult(data, out, manifest, options.texts.files(), planner.plan.by_split(), is_written=False)
    if data.resolve().is_relative_to(out.resolve()):
        raise DataError(problem(out, "the folder that holds --data", "another folder", "choose another --out"))
    if data.is_dir():  # else its absence is told instead
        check_target(out, "prepare", options.overwrite, (CASES, IMAGES, QUESTIONS, MANIFEST, PAGE, MEAN_MASK))
    raw = open_source(data, reading, options.source)
    with replace_results(out) as folder:
        manifest = _build(raw, options, folder, out.resolve(), planner)
        return PrepareResult(data, out, manifest, options.texts.files(), planner.plan.by_split())


def _build(
    raw: RawDataset, options: PrepareOptions, folder: Path | None, root: Path, planner: ShardPlanner
) -> PrepareManifest:
    """Check everything, return the manifest, and write the dataset if a folder is given, which then becomes `root`."""
    with CaseStore() as store:
        reader = Reader(lambda path: below(path, raw.root), folder, root, options.merge, cleans=not raw.is_challenge)
        gatherer = Gatherer(raw, store)
        for read in reader.read(track(gatherer.unique(), "cases", raw.total)):
            gatherer.keep(read)
        gatherer.note()
        texts = CaseTexts(raw, sorted(store.classes), options.texts, options.prompt)
        final = FinalDataset(raw, store, plan(raw, store, options.plan), root, options.merge, texts)
        prompts, counts, overview = PromptCounter(raw.issues), Counts(), OverviewCounter(raw.questions)
        cases = _passing(final.cases(), prompts.add, counts.add_case, overview.add_case, planner.add_case)
        write_rows(folder, CASES, map(case_row, cases))
        texts.report()
        images = _passing(final.images(), counts.add_image, overview.add_image, planner.add_image)
        write_rows(folder, IMAGES, (image_row(image, root) for image in images))
        if not counts.images and not counts.has_text:
            raise DataError([*by_kind(raw.issues.lines()), _nothing_usable(raw, counts)])
        shards = planner.plan
        manifest = _manifest(final, _settings(options, final), counts, prompts.statistics(), overview)
        if options.strict and raw.issues.problems:
            remedy = f"{raw.issues.number} problems; nothing was written: fix them, or leave out --strict"
            raise DataError([*by_kind(manifest.problems), remedy])
        if folder:
            if shards.pairs:
                _write_shards(folder, final, shards)
            _write(folder, final, manifest)
        return manifest


def _write_shards(folder: Path, final: FinalDataset, plan: ShardPlan) -> None:
    """Write the pairs as tars into the folder that the dataset is made in."""
    check_room(folder, sizes_of(final.images_in(folder)))
    pairs = track(final.pairs_in(folder), "writing shards", sum(plan.pairs))
    write_shards(folder / SHARDS, pairs, plan, final.raw.questions)


def _forget_dropped(folder: Path, final: FinalDataset) -> None:
    """Remove what was written of photos before they turned out to be duplicates that are left out."""
    for photo in final.store.each_photo() if final.plan.dropped else ():
        if photo.number in final.plan.dropped:
            for name in written_names(photo.facts):
                (folder / name).unlink(missing_ok=True)


def _settings(options: PrepareOptions, final: FinalDataset) -> PrepareSettings:
    return PrepareSettings(
        merge=options.merge,
        prompt=options.prompt,
        responses=options.responses,
        source=final.raw.source,
        split_rule=final.plan.split_rule,
        split_by=options.split_by,
        valid=options.valid,
        test=options.test,
        seed=options.seed,
        knowledge=final.texts.makes_knowledge,
        overflow=options.texts.overflow,
        query_from=final.texts.query_from,
        query_attributes=",".join(options.texts.names),
        label_captions=options.texts.label_captions,
        text_files=",".join(options.texts.files().values()),
        duplicates=options.duplicates,
    )


def _passing(items: Iterable[Item], *counters: Callable[[Item], None]) -> Iterator[Item]:
    """Yield items after each counter has seen them."""
    for item in items:
        for count in counters:
            count(item)
        yield item


def write_rows(folder: Path | None, name: str, rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table; without a folder, only go through its rows."""
    if folder is not None:
        write_jsonl(folder / name, rows)
    else:
        deque(rows, maxlen=0)


def _nothing_usable(raw: RawDataset, counts: Counts) -> str:
    cases, photos = f"{counts.cases:,} cases without any text", f"{counts.listed:,} listed"
    got = f"{cases}, 0 of {photos} photos"
    if not counts.cases:
        lost = raw.issues.left_out["cases"]
        got = f"no case that can be used, {lost:,} left out" if lost else "no row"
    where = shorten(raw.inputs, 3) or str(raw.root)
    remedy = "give the folder that holds the photos too, unpacked, as --data"
    if raw.archives:
        remedy = f"unpack {shorten(raw.archives, 3)} first"
    return problem(where, got, "a photo or a text", remedy)


def _write(folder: Path, final: FinalDataset, manifest: PrepareManifest) -> None:
    mean = final.mean_mask()
    if mean is not None:
        write_atomic(folder / MEAN_MASK, lambda file: mean.save(file, "PNG"))
    if final.raw.questions.slots:
        write_json(folder / QUESTIONS, final.raw.questions.as_json())
    marked = list(final.marked_in(folder))
    shown = duplicates_to_show(manifest)
    duplicates = final.named_in(folder, {photo.image for cluster in shown for photo in cluster.photos})
    write_text(folder / PAGE, prepare_page.html(manifest, marked, final.dices, mean, duplicates))
    _forget_dropped(folder, final)
    write_json(folder / MANIFEST, manifest.to_json())  # last: it marks the dataset as complete


def _manifest(
    final: FinalDataset,
    settings: PrepareSettings,
    counts: Counts,
    prompts: PromptStatistics | None,
    overview: OverviewCounter,
) -> PrepareManifest:
    raw, issues = final.raw, final.raw.issues
    kinds = Counter(kind for photo in final.photos(plain=False) for kind in photo.facts.kinds)
    odds = Counter(photo.facts.size.odd for photo in final.photos(plain=False) if photo.facts.size.odd)
    for odd, number in sorted(odds.items()):
        issues.note(f"{number:,} {'photo is' if number == 1 else 'photos are'} {odd}")
    orientation = _orientation(final)
    shares, by_split = {split: final.shares(split) for split in SPLITS}, counts.by_split()
    return PrepareManifest(
        settings=settings,
        counts=by_split,
        published=against_published(by_split) if raw.is_challenge else None,
        left_out={what: issues.left_out[what] for what in ("cases", "images", "masks", "answers")},
        agreement=agreement(final.dices),
        mask_values=dict(sorted(kinds.items())),
        lesion=_lesion(final, shares),
        labels=counts.by_label(),
        duplicates=final.plan.duplicates,
        overview=overview.overview({split: masks.values() for split, masks in shares.items()}),
        orientation=orientation,
        prompts=prompts,
        problems=tuple(issues.lines()),
        notes=tuple(issues.notes),
        inputs=Inputs(
            files=dict(sorted(raw.inputs.items())),
            photos=digest(final.store.photo_lines()),
            masks=digest(sorted(line for photo in final.photos(plain=False) for line in photo.facts.digests)),
        ),
    )


def _orientation(final: FinalDataset) -> Orientation:
    upright = Counter(photo.facts.upright for photo in final.photos(plain=False) if photo.facts.size.orientation != 1)
    turned = sum(upright.values())
    rule = "upright" if final.default else "raw"
    if turned:
        masks = f"{upright[False]} match their masks as stored, {upright[True]} when turned upright"
        decided = upright[False] + upright[True]
        why = rule if decided else f"{rule}, as no mask tells: prepare them together with train, whose masks may"
        final.raw.issues.note(
            f"{turned} photos have an EXIF orientation: {masks}, {upright[None]} are undecided (read as {why})"
        )
    return Orientation(turned, upright[False], upright[True], upright[None], rule)


def _lesion(final: FinalDataset, by_split: Mapping[str, Mapping[str, LesionShare]]) -> dict[str, LesionShares | None]:
    """Return how much of the photos is lesion, by split; report masks that viewers show otherwise, and odd shares."""
    issues = final.raw.issues
    for line in appearance_lines(final.appearances()):
        issues.add_loss(line)
    found: dict[str, LesionShares | None] = {}
    for split, shares in by_split.items():
        found[split] = summary(list(shares.values()))
        odd = implausible(shares)
        if odd:
            expected = "a lesion within each photo, in the median at most 60 % of it"
            issues.add_loss(problem(split, odd, expected, "are the masks inverted, or others? look at them"))
    return found
