"""The arithmetic of a step's memory, against figures for CLIP ViT-B/16 with 12 text layers, C = 11, K = 8, d = 512."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from magic_cli.config import resolve
from magic_cli.records import Case, ImageRecord, Sample
from magic_cli.tasks.pretrain import TASK
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.tasks.pretrain.memory import Comparison, Transformer, size, states

IMAGE, TEXT = Transformer(197, 768, 12), Transformer(77, 512, 12)


def paper(photos: int, processes: int = 1) -> Comparison:
    return Comparison(photos, texts=11, subtexts=8, dim=512, processes=processes, patches=196)


def test_states_of_the_whole_model_take_two_and_a_half_gigabytes() -> None:
    assert size(states(149_600_000, 0)) == "2.4 GB"
    assert states(10, 5, average=True) == 4 * (5 * 10 + 5)


def test_activations_explain_one_large_gpu() -> None:
    assert [size(each.activations(half=True, recomputed=False)) for each in (IMAGE, TEXT)] == ["62 MB", "16 MB"]
    image, text = (each.activations(half=True, recomputed=True) for each in (IMAGE, TEXT))
    assert [round(image / 1e6, 1), round(text / 1e6, 2)] == [3.6, 0.95]
    assert [size(2048 * image), size(2048 * 11 * text)] == ["7.4 GB", "21.3 GB"]
    assert IMAGE.activations(half=False, recomputed=False) == 2 * IMAGE.activations(half=True, recomputed=False)


@pytest.mark.parametrize(
    ("photos", "logits", "local", "of_eight", "gathered"),
    [(2048, 0.18, 0.13, 0.02, 55), (16_384, 11.8, 8.6, 1.5, 436), (32_768, 47.2, 34.4, 5.9, 872)],
)
def test_logits_grow_with_the_square_of_the_batch(
    photos: int, logits: float, local: float, of_eight: float, gathered: int
) -> None:
    one, eight = paper(photos), paper(photos, 8)
    assert one.text_logits / 1e9 == pytest.approx(logits, abs=0.05)
    assert one.local_logits / 1e9 == pytest.approx(local, abs=0.05)
    assert eight.text_logits / 1e9 == pytest.approx(of_eight, abs=0.05)
    assert one.gathered / 1e6 == eight.gathered / 1e6 == pytest.approx(gathered, abs=1)


def test_patches_stay_on_their_process_and_chunks_bound_the_loss() -> None:
    assert size(paper(2048).local_vectors) == "822 MB"
    assert paper(2048, 8).local_vectors == paper(256).local_vectors
    whole, chunked = paper(16_384).loss(10**6), paper(16_384).loss(1024)
    assert whole == 3 * (2 * paper(16_384).text_logits + paper(16_384).local_logits)
    assert chunked < whole / 9
    assert paper(64).loss(10**6) == paper(64).loss(64 * 11)


def notes(processes: int, *settings: str) -> list[str]:
    """Return the notes for 40 photos, two of each case, whose raw text is its only subtext."""
    config = resolve(PretrainConfig, "tiny", settings)
    samples = []
    for number in range(40):
        texts = {"raw": f"plaque {number // 2}", "subtext-1": f"plaque {number // 2}"}
        case = Case(f"E{number // 2}", "train", (), texts={role: {"en": text} for role, text in texts.items()})
        samples.append(Sample(f"I{number}", case, (cast("ImageRecord", SimpleNamespace(image_id=f"I{number}")),)))
    model: Any = TASK.build(config, cast("Any", None))
    return list(TASK.training_notes(model, samples, config, processes, 2955))


def test_negatives_and_shares_are_said_before_a_training() -> None:
    compared, schedule, memory = notes(2, "batch_size=32", "micro_batch=8", "grad_accum_steps=2")
    assert compared == (
        "batches of 32 photos with 2.0 texts each on 2 processes, 16 each, encoded 8 at a time with the gradient of the"
        " whole batch; negatives: 31 photos per text, 62 texts per photo; grad_accum_steps adds none, micro_batch does"
    )
    assert schedule == "2,955 updates, warm-up in the first 296 (10%)"
    assert memory.startswith("memory: about ")
    assert "not known" not in memory  # both encoders are frozen


def test_clip_has_one_text_per_photo_and_unknown_activations_are_named() -> None:
    compared, _, memory = notes(1, "objective=infonce", "local_weight=0", "finetune=all", "batch_size=64")
    assert compared == "batches of 40 photos with 2.0 texts each; negatives: 39 photos per text, 39 texts per photo"
    assert memory.endswith("without the activations of the image encoder and the text encoder, which are not known")
    assert notes(1, "batch_size=1")[0].endswith("nothing is learned, give more photos or a larger batch_size")


def test_the_warm_up_of_the_paper_is_half_of_its_training() -> None:
    """Its 1,500 updates, of 403,563 pairs in batches of 2,048 over 15 epochs; the share is said at the start."""
    assert resolve(PretrainConfig, "paper").warmup_updates(403_563 // 2048 * 15) / 2955 == pytest.approx(0.51, abs=0.01)
    assert notes(1, "warmup_steps=1500")[1] == "2,955 updates, warm-up in the first 1,500 (51%)"
    assert notes(1, "schedule=constant")[1].endswith("warm-up in the first 0 (0%)")
