"""Pairs of a photo and its texts, for contrastive pretraining: one sample per photo."""

from collections.abc import Sequence

from magic_cli.data.prepared import Prepared
from magic_cli.data.shards.dataset import ShardedDataset
from magic_cli.data.texts.pair_texts import has_text, with_pair_texts
from magic_cli.data.texts.prompt_ladder import refuse_gold_prompts
from magic_cli.records import Sample


def pair_samples(prepared: Prepared, split: str, needs_text: bool = True) -> Sequence[Sample]:
    """Return the pairs of a split in prepared order: one sample per photo that is there and whose case has a text.

    Those of shards are a lazy sequence (data/lazy_samples.py), which must not be made a list; they bring their texts.
    Other cases come with the texts that can be made for them (data/texts/pair_texts.py).

    Args:
        prepared: the dataset.
        split: one of its splits.
        needs_text: False also returns the photos without any text: they can be predicted.

    Raises:
        DataError: a split other than train, valid, test, or texts that are made from gold answers.
    """
    if isinstance(prepared, ShardedDataset):
        return prepared.samples(split)
    refuse_gold_prompts(prepared)
    images = prepared.images_of(split)
    cases = {case.case_id: case for case in prepared.cases_of(split) if has_text(case) or not needs_text}
    made = {name: with_pair_texts(case, prepared.questions) for name, case in cases.items()}
    there = (image for image in images if image.path is not None and image.case_id in made)
    return tuple(Sample(image.image_id, made[image.case_id], (image,)) for image in there)


def pair_notes(prepared: Prepared, split: str) -> tuple[str, ...]:
    """Return one line that counts the photos of a split that make no pair, () if all do; raises as `pair_samples`.

    Of shards, all that is to be told about them belongs to split train.
    """
    if isinstance(prepared, ShardedDataset):
        return prepared.warnings if split == "train" else ()
    images = prepared.images_of(split)
    lost = sum(image.path is None for image in images)
    silent = sum(image.path is not None and not has_text(prepared.cases[image.case_id]) for image in images)
    reasons = [f"{silent:,} without any text"] if silent else []
    reasons += [f"{lost:,} without their file"] if lost else []
    if not reasons:
        return ()
    return (f"split {split}: {lost + silent:,} of {len(images):,} photos make no pair: {', '.join(reasons)}",)
