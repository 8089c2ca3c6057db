"""The result of `magic prepare`, and its text for the terminal."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from magic_cli.data.issues import by_kind, counted
from magic_cli.data.manifest import PrepareManifest
from magic_cli.data.prepared import PAGE
from magic_cli.data.prepared_inputs import image_files
from magic_cli.data.prompt_lengths import PromptWindow
from magic_cli.data.shards.tar_writer import FOLDER as SHARDS
from magic_cli.data.sources import ADAPTERS, adapter
from magic_cli.data.texts.prompt_ladder import tells_gold
from magic_cli.errors import printable, shorten
from magic_cli.io import run_record
from magic_cli.io.run_record import Hashed, RunFiles, VerbResult
from magic_cli.records import SPLITS
from magic_cli.report.next_command import command_line, data_words

_SHOWN = 20

_LEFT_OUT = {"cases": "case", "images": "photo", "masks": "mask", "answers": "answer"}  # words for people

_CHALLENGE = "dermavqa"  # its cases are encounters

_MERGED = {
    "or": "lesion is what any of them marks",
    "majority": "lesion is what at least half of them mark",
    "intersection": "lesion is what all of them mark",
    "each": "their masks stay apart",
}

_WORDS = 0.14  # fives of English words in a token


@dataclass(frozen=True, slots=True)
class PrepareResult(VerbResult):
    """A prepared dataset.

    Attributes:
        data: the raw folder that it was made from.
        out: its folder.
        manifest: prepare.json: counts, problems, notes, agreement of annotators, prompt lengths.
        files: SHA-256 of other files that were read.
        shards: "tars" and "pairs" of each split that shards were written of.
        is_written: False for a dry run.
    """

    data: Path
    out: Path
    manifest: PrepareManifest
    files: Mapping[Path, str] = field(default_factory=dict)
    shards: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    is_written: bool = True

    def run_files(self) -> RunFiles | None:
        """Return what was read and written, for run.json; None after a dry run."""
        if not self.is_written:
            return None
        record, settings = self.out / run_record.FILE, asdict(self.manifest.settings)
        return RunFiles(record, self.out, self._inputs, settings=settings)

    def _inputs(self) -> Hashed:
        yield from ((self.data / name, digest) for name, digest in self.manifest.inputs.files.items())
        yield from self.files.items()
        yield from image_files(self.out, SPLITS, masks="annotators")

    def to_json(self) -> dict[str, object]:
        """Return what --json prints (schemas/prepared.schema.json), less "command"."""
        return self.manifest.to_json() | ({"shards": self.shards} if self.shards else {})

    def lines(self) -> list[str]:
        """Return the result for the terminal; the last line names the next command."""
        lines = [*summary_lines(self.manifest), *self._shard_lines()]
        if not self.is_written:
            return [*lines, "nothing written (--dry-run)"]
        return [*lines, f"look at it: {self.out / PAGE}", *self._ready()]

    def _shard_lines(self) -> list[str]:
        """Return what shards hold, and where they are."""
        if not self.shards:
            return []
        each = (
            f"{split} {counted(row['pairs'], 'pair', 'pairs')} in {counted(row['tars'], 'tar', 'tars')}"
            for split, row in self.shards.items()
        )
        line = f"shards: {', '.join(each)}, in {self.out / SHARDS}"
        training = command_line("train", "pretrain", *data_words(self.out / SHARDS))
        return [f"{line}; to train from them: {training}" if training else line]

    def _ready(self) -> list[str]:
        """Return a line per task that the train photos, texts, answers and labels allow to train."""
        commands = [command_line("train", *words, *data_words(self.out)) for words in self._trainable()]
        if not commands:
            return [f"{self.out}: ready, but nothing to learn from with `magic train`: {self._missing()}"]
        first, *others = commands
        ready = f"{self.out}: ready; next: {first}" if first else f"{self.out}: ready"
        return [ready, *(f"or next: {line}" for line in others if line)]

    def _trainable(self) -> Iterator[tuple[str, ...]]:
        """Yield the words of each `magic train` that fits; of the challenge's data, what the challenge asks first."""
        manifest, train = self.manifest, self.manifest.counts["train"]
        if train.masks:
            yield ("seg",)
        if tells_gold(manifest.settings.prompt):  # other tasks refuse its texts
            return
        if train.answered:
            yield ("cvqa",) if train.images else ("cvqa", "--modality", "text")
        if manifest.settings.source == _CHALLENGE and (train.masks or train.answered):
            return
        if manifest.overview and manifest.overview.with_text.get("train") and train.images:
            yield ("pretrain",)
        if manifest.labels and sum(bool(row["train"]) for row in manifest.labels.counts.values()) > 1 and train.images:
            yield ("retrieve",)

    def _missing(self) -> str:
        train = self.manifest.counts["train"]
        if not train.cases:
            return "split train has no cases"
        return "split train has no masks (seg), no closed answers (cvqa), and no photos with texts or classes"


def summary_lines(manifest: PrepareManifest) -> list[str]:
    """Return the source, a table of counts, and lines about masks, prompts, the first 20 kinds of notes, and losses.

    A number that differs from the published one is shown as "2,473 of 2,474".
    """
    rows = [("", *SPLITS), *count_rows(manifest)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return [f"read as {source_text(manifest)}", *lines, *_details(manifest)]


def count_rows(manifest: PrepareManifest) -> list[tuple[str, str, str, str]]:
    """Return rows of (label, train, valid, test), without a heading."""
    published = manifest.published.counts if manifest.published else {}

    def cell(split: str, key: str) -> str:
        number, expected = manifest.counts[split].number(key), published.get(split, {}).get(key)
        return f"{number:,}" if expected in (None, number) else f"{number:,} of {expected:,}"

    return [(label, cell("train", key), cell("valid", key), cell("test", key)) for key, label in row_labels(manifest)]


def row_labels(manifest: PrepareManifest) -> list[tuple[str, str]]:
    """Return the key and the words of each row of counts; closed answers only where there are or should be some."""
    rows = [("cases", case_word(manifest, 2)), ("images", "photos"), ("masks", "masks")]
    if manifest.settings.source == _CHALLENGE or any(counts.answered for counts in manifest.counts.values()):
        rows.append(("answered", "with closed answers"))
    return rows


def case_word(manifest: PrepareManifest, number: int) -> str:
    """Return "encounters" for the challenge, "cases" for all other datasets, in the number that is asked for."""
    word = "encounter" if manifest.settings.source == _CHALLENGE else "case"
    return word if number == 1 else f"{word}s"


def source_text(manifest: PrepareManifest) -> str:
    """Return what the dataset was taken for, "isic-archive: ISIC archive, any export (licence: ...)"."""
    name = manifest.settings.source
    if name not in ADAPTERS:
        return name
    source = adapter(name)
    return f"{name}: {source.title} (licence: {source.licence})"


def left_out_texts(manifest: PrepareManifest) -> list[str]:
    """Return how much of what was left out, "1 case", "12 masks"."""
    words = {**_LEFT_OUT, "cases": case_word(manifest, 1)}
    return [counted(number, words[what], f"{words[what]}s") for what, number in manifest.left_out.items() if number]


def _details(manifest: PrepareManifest) -> list[str]:
    lines = [f"published counts: {text}" for text in (published_text(manifest),) if text]
    if manifest.mask_values:
        values = ", ".join(f"{number:,} with {kind}" for kind, number in manifest.mask_values.items())
        lines.append(f"masks: {values}{_merged(manifest)}")
    lines += [f"lesion: {text}" for text in lesion_texts(manifest)]
    if manifest.agreement:
        mean, median = manifest.agreement.mean_dice, manifest.agreement.median_dice
        photos = f"{manifest.agreement.images:,} photos"
        lines.append(f"annotators: pairwise Dice mean {mean:.2f}, median {median:.2f} ({photos})")
    lines += balance_texts(manifest)
    if manifest.prompts:
        lines += [_window(window) for window in manifest.prompts.windows if window.exceed]
    for kind, sentences in (("note", by_kind(manifest.notes)), ("problem", by_kind(manifest.problems))):
        lines += [f"{kind}: {line}" for line in sentences[:_SHOWN]]
        if len(sentences) > _SHOWN:
            lines.append(f"... and {len(sentences) - _SHOWN:,} more kinds of {kind}s, all of them in prepare.json")
    left_out = left_out_texts(manifest)
    if left_out:
        lines.append(f"left out: {', '.join(left_out)}")
    return lines


def published_text(manifest: PrepareManifest) -> str:
    """Return how the counts compare with those that the challenge published; "" for other datasets."""
    if manifest.settings.source != _CHALLENGE:
        return ""
    if manifest.published is None:
        return "not compared, as the numbers of encounters are not those of the 2025 challenge"
    differing = sum(bool(number) for row in manifest.published.difference.values() for number in row.values())
    if not differing:
        return "all counts are as the challenge published them"
    return f"{counted(differing, 'count differs', 'counts differ')} from what the challenge published"


def _merged(manifest: PrepareManifest) -> str:
    """Return what becomes of several masks of a photo, where there are such photos."""
    several = sum(n for split in manifest.counts.values() for masks, n in split.annotators.items() if int(masks) > 1)
    if not several:
        return ""
    photos = counted(several, "photo has", "photos have")
    return f"; {photos} those of several annotators: {_MERGED[manifest.settings.merge]} (--merge)"


def balance_texts(manifest: PrepareManifest) -> list[str]:
    """Return what no training can learn: questions with one answer throughout, answers and labels that train lacks."""
    lines = []
    answers = manifest.overview.answers if manifest.overview else {}
    by_answer: dict[tuple[str, ...], list[str]] = {}
    for parent, only in (manifest.overview.constant() if manifest.overview else {}).items():
        by_answer.setdefault(only, []).append(parent)
    if by_answer:
        number = sum(map(len, by_answer.values()))
        verb = "has" if number == 1 else "have"
        each = "; ".join(f"{', '.join(parents)}: {quoted(only)}" for only, parents in by_answer.items())
        lines.append(f"answers: {number} of {len(answers)} questions {verb} one answer throughout ({each})")
    untaught = [f"{parent} {quoted(found)}" for parent, row in answers.items() if (found := row.untaught())]
    if untaught:
        lines.append(f"answers: in valid or test, but never in train: {shorten(untaught, 5)}")
    lines += [
        f"labels: in valid or test, but never in train: {shorten(names, 5)}" for names in [_unseen(manifest)] if names
    ]
    return lines


def _unseen(manifest: PrepareManifest) -> list[str]:
    """Return the labels that split train lacks; none if it has no label at all."""
    counts = manifest.labels.counts if manifest.labels else {}
    lacking = [printable(label) for label, row in counts.items() if not row["train"]]
    return lacking if len(lacking) < len(counts) else []


def quoted(options: Iterable[str]) -> str:
    """Return options of an answer in quotes, separated by commas."""
    return ", ".join(f'"{printable(option)}"' for option in options)


def lesion_texts(manifest: PrepareManifest) -> list[str]:
    """Return for each split with masks how much of a photo they mark, "train: median 9 % of a photo (0.2 to 43 %)"."""
    return [
        f"{split}: median {100 * shares.median:.3g} % of a photo "
        f"({100 * shares.lowest:.3g} to {100 * shares.highest:.3g} %, {shares.masks:,} masks)"
        for split, shares in manifest.lesion.items()
        if shares is not None
    ]


def _window(window: PromptWindow) -> str:
    halves = {"questions": window.kept_question, "answers": window.kept_answer}
    shares = [f"{100 * share:.0f} % of the {half}" for half, share in halves.items() if share is not None]
    reads = f"{window.model} reads ({window.tokens} tokens, about {words_in(window)} words)"
    cut = f"{window.exceed:,} of {window.prompts:,} are longer than {reads} and are cut for it"
    return f"texts: {cut}; on average it gets {' and '.join(shares)}"


def words_in(window: PromptWindow) -> int:
    """Return about how many English words fit into a window, in steps of five."""
    return 5 * round(window.tokens * _WORDS)
