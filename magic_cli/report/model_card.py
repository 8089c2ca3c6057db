"""The model card of a checkpoint: Markdown with the YAML header that model hubs read, no path of this machine."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from magic_cli.errors import printable
from magic_cli.models.licences import licence_of, sources
from magic_cli.records import CheckpointMeta
from magic_cli.report.score_text import SCORE_NAMES
from magic_cli.report.short_names import without_place

# What a hub calls the use of each task's models: huggingface.co/tasks.
PIPELINES = {
    "seg": "image-segmentation",
    "cvqa": "visual-question-answering",
    "pretrain": "zero-shot-image-classification",
    "retrieve": "image-feature-extraction",
}

_USES = {
    "seg": "outlining skin lesions in photos taken with everyday cameras, for the MEDIQA-MAGIC 2025 challenge",
    "cvqa": "choosing answers to the challenge's closed questions about a skin problem, from photos and text",
    "pretrain": "vectors of skin photos and texts in one space, as a start for other tasks and for searches by words",
    "retrieve": "finding photos of similar skin lesions among photos of known cases, by a photo and words",
}

_FIRST = "---\nlibrary_name: mediqa-magic\n"

_MOST_SCORES = 12


@dataclass(frozen=True)
class TrainingData:
    """A dataset that a model learned from.

    Attributes:
        name: what it is called, for people; no path.
        sha256: hex SHA-256 of its prepare.json, "" if unknown.
        counts: cases, photos and masks by split, "train" and "valid"; {} if unknown.
        adapter: the name of the adapter of `magic prepare` that read it, "" if unknown.
    """

    name: str
    sha256: str = ""
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    adapter: str = ""


@dataclass(frozen=True)
class CardFacts:
    """What a card says beside the meta data of the checkpoint.

    Attributes:
        title: the name of the task for people; "" for its short name.
        monitor: the score that chose the epoch; "" if unknown.
        data: the datasets that it learned from; () if unknown.
        changed: settings that differ from the preset.
        licence_file: a file beside the card that says whose licences hold; "" for none.
        checkpoint: what users give to --ckpt.
    """

    title: str = ""
    monitor: str = ""
    data: Sequence[TrainingData] = ()
    changed: Mapping[str, object] = field(default_factory=dict)
    licence_file: str = ""
    checkpoint: str = "best.pt"


def card(meta: CheckpointMeta, facts: CardFacts | None = None) -> str:
    """Return a model card in Markdown with the YAML header of the Hugging Face Hub; it ends with a newline.

    Args:
        meta: meta data of a checkpoint.
        facts: what else is known of it.
    """
    known = facts or CardFacts()
    parts = [
        _header(meta, known),
        _what(meta, known),
        _limits(),
        _data(meta, known),
        _training(meta, known),
        _scores(meta, known),
        _use(meta, known),
        _licences(meta, known),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def is_card(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is a card of this program."""
    return head.startswith(_FIRST.encode())


def _header(meta: CheckpointMeta, facts: CardFacts) -> list[str]:
    """Return the YAML header; every text in it is quoted."""
    lines = [*_FIRST.splitlines(), "license: other", "license_name: see-model-card"]
    lines += [f"license_link: {facts.licence_file}"] if facts.licence_file else []
    pipeline = PIPELINES.get(meta.task)
    lines += [f"pipeline_tag: {pipeline}"] if pipeline else []
    lines += _yaml_list("tags", ["dermatology", "medical", "mediqa-magic", meta.task])
    names = list(dict.fromkeys(data.adapter or data.name for data in facts.data))
    lines += _yaml_list("datasets", names) if names else []
    best = _best(meta, facts)
    shown = [facts.monitor] if facts.monitor in best else list(best)[:1]
    lines += _yaml_list("metrics", shown) if shown else []
    bases = [source for source in sources(meta.encoders) if ":" not in source and "/" in source]
    lines += _yaml_list("base_model", [without_place(base) for base in bases]) if bases else []
    return [*lines, "---"]


def _yaml_list(key: str, values: Sequence[str]) -> list[str]:
    return [f"{key}:", *('- "' + printable(value).replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)]


def _what(meta: CheckpointMeta, facts: CardFacts) -> list[str]:
    version = meta.versions.get("mediqa-magic", "")
    title = facts.title or meta.task
    use = _USES.get(meta.task, f"task {meta.task} of `magic`")
    return [
        f"# {_plain(title[:1].upper() + title[1:])}, preset {_plain(meta.config.get('preset', '?'))}",
        "",
        f"Trained by mediqa-magic {_plain(version)} for task `{_plain(meta.task)}`.",
        "",
        "## Intended use",
        "",
        f"Research: {use}.",
    ]


def _limits() -> list[str]:
    return [
        "## Limits",
        "",
        "- It is **not a medical device**. No diagnosis, and no decision about a person's care, may rest on it.",
        "- It knows the cameras, skin tones, body sites and diseases of its training data, and on others it may fail",
        "  without a sign of it: score it on your own data first (`magic score --by`).",
        "- Scores below are of validation samples that chose the epoch: they are optimistic.",
    ]


def _data(meta: CheckpointMeta, facts: CardFacts) -> list[str]:
    lines = ["## Training data", ""]
    if not facts.data:
        return [*lines, f"Not recorded here; SHA-256 of the prepared data: `{_plain(meta.manifest_sha256)}`."]
    lines += ["| dataset | split | cases | photos | masks |", "|---|---|---:|---:|---:|"]
    for data in facts.data:
        rows = data.counts or {"": {}}
        for split, row in rows.items():
            cells = (row.get(key, "") for key in ("cases", "images", "masks"))
            lines.append(f"| {_plain(data.name)} | {_plain(split)} | {' | '.join(str(cell) for cell in cells)} |")
    digests = ", ".join(f"`{_plain(data.sha256)}`" for data in facts.data if data.sha256)
    return [
        *lines,
        "",
        f"SHA-256 of prepare.json: {digests or 'unknown'}. The data itself is not in this model's files.",
    ]


def _training(meta: CheckpointMeta, facts: CardFacts) -> list[str]:
    changed = {name: value for name, value in facts.changed.items() if name != "preset"}
    differ = ", ".join(f"`{_plain(name)}={_plain(without_place(value))}`" for name, value in changed.items())
    versions = ", ".join(f"{_plain(name)} {_plain(version)}" for name, version in meta.versions.items())
    return [
        "## Training",
        "",
        f"- preset {_plain(meta.config.get('preset', '?'))}; settings that differ from it: {differ or 'none'}",
        f"- epoch {len(meta.history)} was kept; seed {meta.seed}",
        f"- versions: {versions or 'not recorded'}",
    ]


def _scores(meta: CheckpointMeta, facts: CardFacts) -> list[str]:
    lines = ["## Scores", ""]
    best = _best(meta, facts)
    if not best:
        return [*lines, "None: no validation sample was scored."]
    lines += ["| score | validation samples |", "|---|---:|"]
    first = [facts.monitor] if facts.monitor in best else []
    for name in [*first, *(key for key in best if key not in first)][:_MOST_SCORES]:
        interval = ""
        if name in first and meta.interval is not None:
            low, high = meta.interval
            interval = f" (95 % interval {low:.3f} to {high:.3f}, by resampling encounters)"
        lines.append(f"| {_plain(SCORE_NAMES.get(name, (name, ''))[0])} | {best[name]:.4f}{interval} |")
    return lines


def _use(meta: CheckpointMeta, facts: CardFacts) -> list[str]:
    return [
        "## How to use",
        "",
        "```sh",
        f"magic predict {_plain(meta.task)} --ckpt {facts.checkpoint} --data prepared",
        "```",
        "",
        "`prepared` is what `magic prepare --data FOLDER` writes. Encoders that were not trained are not in the file:",
        "the packages or the Hub checkpoints named below have to be on the machine.",
    ]


def _licences(meta: CheckpointMeta, facts: CardFacts) -> list[str]:
    lines = ["## Licences", "", "The weights began as, or need, those of:", ""]
    lines += [f"- {_plain(without_place(source))}: {_plain(licence_of(source))}" for source in sources(meta.encoders)]
    more = f" See {facts.licence_file}." if facts.licence_file else ""
    return [*lines, "", f"What the licence of the training data says about models holds too.{more}"]


def _best(meta: CheckpointMeta, facts: CardFacts) -> dict[str, float]:
    """Return the scores of the epoch that was kept: the row with the best score, else the last one."""
    rows = [
        row for row in meta.history if meta.score is not None and meta.score in (row.get(facts.monitor), *row.values())
    ]
    row = rows[0] if rows else (meta.history[-1] if meta.history else {})
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, float) and math.isfinite(value) and name not in ("epoch", "loss")
    }


def _plain(value: object) -> str:
    """Return a text of a file as Markdown that shows it and does nothing: no markup, no cell that ends early."""
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", printable(value))
