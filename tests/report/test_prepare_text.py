"""What `magic prepare` says on a terminal: what no training can learn, and which training fits the data."""

from dataclasses import replace
from pathlib import Path

import pytest

from magic_cli.data.manifest import (
    PUBLISHED,
    LabelCounts,
    PrepareManifest,
    PrepareSettings,
    SplitCounts,
    against_published,
)
from magic_cli.data.preparation.overview import AnswerBalance, Overview
from magic_cli.data.prompt_lengths import prompt_statistics
from magic_cli.records import SPLITS
from magic_cli.report.preparation.text import PrepareResult, published_text, summary_lines

NONE = dict.fromkeys(SPLITS, 0)


def manifest(
    source: str = "isic-challenge", masks: int = 0, answered: int = 0, images: int = 9, merge: str = "or"
) -> PrepareManifest:
    """Return a manifest of 9 train cases; each third photo with masks has two."""
    annotators = {"0": images - masks, "1": masks - masks // 3, "2": masks // 3}
    train = SplitCounts(9, images, images, masks, annotators, answered)
    counts = {"train": train, "valid": SplitCounts(0, 0, 0, 0, {}, 0), "test": SplitCounts(0, 0, 0, 0, {}, 0)}
    made = PrepareManifest.of_counts(PrepareSettings(merge, "qa", responses=True, source=source), counts)
    return replace(made, mask_values={"0/1": masks} if masks else {})


def balance(only: tuple[str, ...], train: tuple[int, int], valid: tuple[int, int]) -> AnswerBalance:
    counts = {"train": train, "valid": valid, "test": (0, 0)}
    return AnswerBalance("Itchy?", ("yes", "no"), {"train": 9, "valid": 2, "test": 0}, counts, only)


def labels(**counts: tuple[int, int, int]) -> LabelCounts:
    rows = {name: dict(zip(SPLITS, numbers, strict=True)) for name, numbers in counts.items()}
    return LabelCounts(len(rows), rows, NONE)


def trainings(made: PrepareManifest) -> list[str]:
    return [
        line.partition("magic train ")[2]
        for line in PrepareResult(Path("raw"), Path("prepared"), made).lines()[-9:]
        if "next: " in line
    ]


def test_one_answer_throughout_and_answers_that_train_lacks() -> None:
    answers = {
        "Q1": balance(("yes",), (9, 0), (2, 0)),
        "Q2": balance((), (9, 0), (1, 1)),
        "Q3": balance(("yes",), (9, 0), (2, 0)),
        "Q4": balance(("yes", "no"), (9, 9), (2, 2)),
        "Q5": balance((), (5, 4), (2, 0)),
    }
    lines = summary_lines(replace(manifest(), overview=Overview(answers=answers)))
    said = [line for line in lines if line.startswith("answers: ")]
    assert said == [
        'answers: 3 of 5 questions have one answer throughout (Q1, Q3: "yes"; Q4: "yes", "no")',
        'answers: in valid or test, but never in train: Q2 "no"',
    ]
    one = summary_lines(replace(manifest(), overview=Overview(answers={"Q1": answers["Q1"], "Q5": answers["Q5"]})))
    assert 'answers: 1 of 2 questions has one answer throughout (Q1: "yes")' in one
    assert not any(line.startswith("answers") for line in summary_lines(manifest()))


def test_labels_that_train_lacks() -> None:
    told = "labels: in valid or test, but never in train: bcc"
    assert told in summary_lines(replace(manifest(), labels=labels(nevus=(9, 1, 1), bcc=(0, 1, 0))))
    held_out = summary_lines(replace(manifest(), labels=labels(nevus=(0, 1, 1), bcc=(0, 1, 0))))
    assert not any(line.startswith("labels") for line in held_out)  # there is nothing to train on anyway


@pytest.mark.parametrize(
    ("merge", "said"),
    [("or", "lesion is what any of them marks"), ("each", "their masks stay apart")],
)
def test_masks_of_several_annotators(merge: str, said: str) -> None:
    assert f"masks: 6 with 0/1; 2 photos have those of several annotators: {said} (--merge)" in summary_lines(
        manifest(masks=6, merge=merge)
    )
    assert "masks: 1 with 0/1" in summary_lines(manifest(masks=1, merge=merge))


def test_texts_that_are_cut_in_plain_words() -> None:
    cut = prompt_statistics({"train": {(80, 80): 1, (10, 10): 1}, "valid": {}, "test": {}}, "WordPiece")
    [line] = [line for line in summary_lines(replace(manifest(), prompts=cut)) if line.startswith("texts")]
    assert line == (
        "texts: 1 of 2 are longer than CLIP reads (77 tokens, about 55 words) and are cut for it; "
        "on average it gets 74 % of the questions and 73 % of the answers"
    )


def test_published_counts() -> None:
    counts = {
        split: SplitCounts(row["cases"], row["images"], row["images"], row["masks"], {}, row.get("answered", 0))
        for split, row in PUBLISHED.items()
    }
    settings = PrepareSettings("or", "qa", responses=True)
    same = replace(PrepareManifest.of_counts(settings, counts), published=against_published(counts))
    assert published_text(same) == "all counts are as the challenge published them"
    fewer = counts | {"valid": replace(counts["valid"], masks=1)}
    other = replace(PrepareManifest.of_counts(settings, fewer), published=against_published(fewer))
    assert published_text(other) == "1 count differs from what the challenge published"
    assert published_text(replace(other, published=None)).startswith("not compared, as the numbers of encounters")
    assert published_text(manifest()) == ""


def test_the_next_command_fits_the_data() -> None:
    told = Overview(with_text=NONE | {"train": 9})
    classes = labels(nevus=(5, 1, 1), bcc=(4, 1, 0))
    assert trainings(replace(manifest(masks=6), overview=told, labels=classes)) == ["seg", "pretrain", "retrieve"]
    assert trainings(replace(manifest(), labels=classes)) == ["retrieve"]
    assert trainings(replace(manifest(), overview=told, labels=labels(nevus=(9, 0, 0)))) == ["pretrain"]
    challenge = replace(manifest("dermavqa", masks=6, answered=9), overview=told)
    assert trainings(challenge) == ["seg", "cvqa"]
    assert trainings(replace(manifest("dermavqa"), overview=told)) == ["pretrain"]
    assert trainings(manifest("dermavqa", answered=9, images=0)) == ["cvqa --modality text"]


def test_nothing_to_learn_from() -> None:
    [last] = PrepareResult(Path("raw"), Path("prepared"), manifest()).lines()[-1:]
    assert last.endswith(
        "split train has no masks (seg), no closed answers (cvqa), and no photos with texts or classes"
    )
    empty = PrepareManifest.of_counts(
        PrepareSettings("or", "qa", responses=True), {s: SplitCounts(0, 0, 0, 0, {}, 0) for s in SPLITS}
    )
    assert PrepareResult(Path("raw"), Path("prepared"), empty).lines()[-1].endswith("split train has no cases")
