"""models/cache/memo.py: a prediction encodes nothing twice, and forgets outputs of weights that have changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from magic_cli.config import resolve
from magic_cli.models.cache import memo
from magic_cli.models.encoders import TinyImage, TinyText
from magic_cli.records import Case, ImageRecord, Sample
from magic_cli.tasks.encoding import encoded, gather, photo_item, text_item
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.decide import MaskPrediction
from magic_cli.training.devices import accelerator_for
from magic_cli.training.inference import predict
from magic_cli.training.task_model import Batch, TaskModel


@dataclass(frozen=True)
class Ids(Batch):
    ids: list[str]


class Reader(TaskModel):
    """Predicts the vector of one word."""

    def __init__(self) -> None:
        super().__init__()
        self.texts = TinyText(16)

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> Batch:  # noqa: ARG002
        return Ids([sample.id for sample in samples])

    def loss(self, batch: Batch) -> Tensor:
        raise NotImplementedError

    def predict(self, batch: Ids, view: int) -> list[MaskPrediction]:  # noqa: ARG002
        part = gather(self.texts, [text_item(self.texts, "red", "")], None)
        found = encoded(self.texts, part)["text"].numpy()
        return [MaskPrediction(name, found) for name in batch.ids]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_text_is_encoded_once_in_prediction_without_a_cache(frozen: bool) -> None:
    encoder, seen = TinyText(16), []
    encoder.register_forward_hook(lambda *_: seen.append(_[1][0]["input_ids"].shape[0]))
    if frozen:
        encoder.freeze()
    items = [text_item(encoder, text, "") for text in ("red", "red skin", "red")]
    with torch.inference_mode():
        first = encoded(encoder, gather(encoder, items, None))["text"]
        again = encoded(encoder, gather(encoder, items[::-1], None))["text"]
    assert seen == [2]
    assert torch.equal(first, encoder.features(encoder.batch([item.load() for item in items]))["text"])
    assert torch.equal(first, again.flip(0))


def test_a_photos_vector_is_made_once_in_prediction_and_its_pyramid_is_not_kept(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    record = ImageRecord("a", "E", "test", str(tmp_path / "a.png"), 8, 8)
    for output, calls in (("pooled", [1]), ("pyramid", [2, 2])):
        encoder, seen = TinyImage(32, output), []
        encoder.register_forward_hook(lambda *_, seen=seen: seen.append(len(_[1][0])))
        with torch.inference_mode():
            for _ in range(2):
                found = encoded(encoder, gather(encoder, [photo_item(encoder, record, 0)] * 2, None))
        assert seen == calls
        assert len(memo._memo.get(encoder, ())) == (output == "pooled")
        assert all(len(tensor) == 2 for tensor in found.values())


SAMPLE = Sample("E", Case("E", "test", (), {}, "", ""), ())


def test_an_encoder_that_learns_forgets_before_it_predicts_again() -> None:
    """Between two predictions the weights move, as between two epochs: both say what their weights say."""
    model, config = Reader(), resolve(SegConfig, "tiny")
    here = accelerator_for(config, "cpu")
    before = next(iter(predict(model, [SAMPLE], config, here))).probability.copy()
    with torch.no_grad():
        model.texts.table.weight.mul_(2)
    after = next(iter(predict(model, [SAMPLE], config, here))).probability
    assert np.allclose(after, 2 * before)


def test_the_longest_known_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "MAX_ITEMS", 2)
    encoder = TinyText(16)
    items = [text_item(encoder, text, "") for text in ("a", "b", "c")]
    with torch.inference_mode():
        encoded(encoder, gather(encoder, items, None))
    assert list(memo._memo[encoder]) == [item.key for item in items[1:]]
    memo.clear(encoder)
    assert encoder not in memo._memo


def test_training_remembers_nothing() -> None:
    encoder = TinyText(16)
    encoded(encoder, gather(encoder, [text_item(encoder, "red", "")], None))
    assert encoder not in memo._memo


def test_padding_is_that_of_the_longest_of_a_batch() -> None:
    """Dynamic padding: short texts are not padded to the window, and padding changes no vector."""
    encoder = TinyText(64)
    short, long = (text_item(encoder, text, "") for text in ("red", "red and itchy skin"))
    assert gather(encoder, [short], None).inputs["input_ids"].shape == (1, 2)
    both = gather(encoder, [short, long], None).inputs
    assert both["input_ids"].shape == (2, 5)
    assert both["attention_mask"].sum(1).tolist() == [2, 5]
    alone = encoder.features(gather(encoder, [short], None).inputs)["text"]
    assert torch.allclose(encoder.features(both)["text"][:1], alone, atol=1e-6)
