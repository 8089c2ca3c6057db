"""models/stem.py: the frozen part of an encoder, cached; with the tail it is the whole encoder, bit by bit."""

import copy
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from magic_cli.models.cache.features import FeatureCache
from magic_cli.models.efficientnet_lite import Lite0
from magic_cli.models.encoders import ImageEncoder, TinyImage
from magic_cli.models.fine_tuning import set_finetuning
from magic_cli.models.stem import stem_of
from magic_cli.records import ImageRecord
from magic_cli.tasks.encoding import Encoded, encoded, gather, photo_item

KINDS = (Lite0, TinyImage)


def tuned(kind: type[ImageEncoder], output: str = "patches", mode: str = "last") -> ImageEncoder:
    encoder = kind(64, output)  # type: ignore[call-arg]
    set_finetuning(encoder, mode, 2)
    return encoder


def photos() -> Tensor:
    return torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", ["patches", "pooled"])
def test_stem_and_tail_are_the_whole_encoder_with_its_gradients(kind: type[ImageEncoder], output: str) -> None:
    """In training, with its batch statistics; the optimizer, the norms and the gradients see no difference."""
    whole, parted = tuned(kind, output).train(), tuned(kind, output).train()
    stem = stem_of(parted)
    assert stem is not None
    for _ in range(2):
        ours = parted.tail({"stem": stem.features(photos())["stem"].contiguous()})
        theirs = whole.features(photos())
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        for encoder, features in ((parted, ours), (whole, theirs)):
            encoder.zero_grad()
            sum(tensor.pow(2).mean() for tensor in features.values()).backward()
            with torch.no_grad():
                for parameter in encoder.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.1 * parameter.grad
    after = whole.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in parted.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_stem_owns_no_weights_and_follows_its_encoder(kind: type[ImageEncoder]) -> None:
    model = torch.nn.Module()
    model.images = tuned(kind)
    names, learning = list(model.state_dict()), list(model.parameters())
    model.stem = stem_of(model.images)
    assert list(model.state_dict()) == names
    assert len(list(model.parameters())) == len(learning)
    assert model.stem.is_frozen
    before = model.stem.features(photos())["stem"]
    assert not before.requires_grad
    assert torch.equal(model.train().stem.features(photos())["stem"], before)  # in eval mode, whatever the model's
    twin = copy.deepcopy(model)  # as the moving average of weights does
    assert twin.stem._whole[0] is twin.images


def test_a_stem_has_a_key_of_its_own_that_outputs_share() -> None:
    encoder = tuned(TinyImage)
    stems = [stem_of(tuned(TinyImage, output)) for output in ("patches", "pooled")]
    assert len({stem.fingerprint for stem in stems}) == 1
    assert stems[0].fingerprint != encoder.fingerprint
    assert stems[0].fingerprint != stem_of(tuned(Lite0)).fingerprint
    larger = TinyImage(32, "patches")
    set_finetuning(larger, "last", 2)
    assert stem_of(larger).fingerprint != stems[0].fingerprint


def test_the_stem_of_a_pyramid_gives_its_finer_levels() -> None:
    images = tuned(Lite0, "pyramid").eval()
    stem = stem_of(images)
    whole, finer = images(photos()), stem.features(photos())
    assert list(finer) == ["p0", "p1", "p2"]
    again = images.tail(finer)
    assert list(again) == list(whole)
    assert all(torch.equal(again[name], level) for name, level in whole.items())


def test_there_is_no_stem_where_nothing_is_gained() -> None:
    for mode in ("head", "all", "lora"):
        assert stem_of(tuned(Lite0, mode=mode)) is None


def test_the_features_of_a_stem_are_cached(tmp_path: Path) -> None:
    Image.effect_noise((40, 30), 60).convert("RGB").save(tmp_path / "a.png")
    record = ImageRecord("a", "E", "train", tmp_path / "a.png", 30, 40)
    images = tuned(Lite0).eval()
    stem, cache = stem_of(images), FeatureCache(tmp_path / "cache", "float32")
    items = [photo_item(stem, record, view) for view in range(2)]
    assert cache.fill(stem, items, torch.device("cpu")) == 2
    batch = gather(stem, items, cache)
    assert isinstance(batch, Encoded)
    whole = images.features(images.batch([item.load() for item in items]))
    assert torch.equal(images.tail(encoded(stem, batch))["patches"], whole["patches"])
