"""models/masks/: attention over scales, gradient maps and boxes for SAM, on small networks."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import save_clip, save_sam
from torch import Tensor, nn

from magic_cli.errors import ConfigError, WeightsError
from magic_cli.models.contrastive_encoders import contrastive_pair
from magic_cli.models.encoders import TinyImage
from magic_cli.models.heads import PyramidDecoder
from magic_cli.models.masks.box_prompt import BoxPrompt
from magic_cli.models.masks.losses import mask_loss
from magic_cli.models.masks.saliency import gradient_map
from magic_cli.models.masks.scale_attention import KERNELS, ScaleAttention


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# --- attention over scales


def test_scale_attention_changes_nothing_at_first() -> None:
    x = torch.randn(2, 6, 9, 7)
    assert torch.equal(ScaleAttention(5, 6)(x, torch.randn(2, 5)), x)
    torch.manual_seed(0)
    plain = PyramidDecoder((4, 6), 5, 8, 0.0)
    torch.manual_seed(0)
    scaled = PyramidDecoder((4, 6), 5, 8, 0.0, by_scale=True)
    levels, text = {"p0": torch.randn(2, 4, 8, 8), "p1": torch.randn(2, 6, 4, 4)}, torch.randn(2, 5)
    assert torch.equal(plain(levels, text), scaled(levels, text))
    assert len(scaled.state_dict()) > len(plain.state_dict())


@pytest.mark.parametrize("opened", range(len(KERNELS)))
def test_each_scale_sees_as_far_as_its_strips(opened: int) -> None:
    """The gate of one scale is open, those of the others are shut: what is further away is not seen."""
    attention = ScaleAttention(1, 1)
    with torch.no_grad():
        attention.gates.weight.zero_()
        attention.gates.bias.copy_(torch.tensor([40.0 if k == opened else -200.0 for k in range(len(KERNELS))]))
        attention.out.weight.fill_(1.0)
    x = torch.ones(1, 1, 41, 41)
    moved = x.clone()
    moved[0, 0, 20, 20] = 3
    text = torch.zeros(1, 1)
    rows = (attention(moved, text) - attention(x, text))[0, 0].abs() > 1e-7
    reach = KERNELS[opened] // 2 + 2  # the strip on top of 5 x 5
    seen = torch.nonzero(rows)
    assert seen.min().item() == 20 - reach
    assert seen.max().item() == 20 + reach


def test_the_text_opens_and_shuts_the_scales() -> None:
    attention = ScaleAttention(3, 4)
    nn.init.normal_(attention.out.weight)
    x = torch.randn(1, 4, 12, 12)
    one, other = (attention(x, text) for text in torch.randn(2, 1, 3))
    assert not torch.allclose(one, other)


def test_only_the_decoder_learns_where_the_encoder_is_frozen() -> None:
    encoder, decoder = TinyImage(32, "pyramid"), PyramidDecoder((8, 16), 3, 8, 0.0, by_scale=True)
    encoder.freeze()
    features = encoder.features(torch.randint(0, 256, (2, 3, 32, 32)).to(torch.uint8))
    mask_loss(decoder(features, torch.randn(2, 3)), torch.rand(2, 32, 32), "dicece").backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is None for weight in encoder.parameters())
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in decoder.parameters())
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in decoder.scales.parameters())


# --- gradient maps


def photos(size: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, size, size)).to(torch.uint8)


def test_gradient_map_of_a_network_whose_gradient_is_known() -> None:
    """Of the mean of a linear last stage, Grad-CAM weighs each channel by the mean of its weights over the places."""
    encoder, pixels = TinyImage(32, "patches"), photos(32)
    encoder.freeze()
    with torch.no_grad():
        encoder.second.weight.abs_()
        encoder.second.bias.abs_()  # type: ignore[union-attr]  # nothing is cut off by the ReLU behind it
    with torch.inference_mode():
        found = gradient_map(encoder, pixels, lambda features: features["pooled"].sum(1))
    stem = encoder.stem_features(pixels)["stem"]
    weights = encoder.second.weight.sum((0, 2, 3)) / (4 * 16)  # four places share a 2 x 2 kernel, of 16 means
    expected = torch.relu((weights[None, :, None, None] * stem).sum(1))
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)
    assert not list(encoder.second._forward_pre_hooks)


def test_gradient_map_of_a_transformer_has_a_place_per_patch(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    images, _ = contrastive_pair("owner/clip", tmp_path, 64, 20)
    images.freeze()
    found = gradient_map(images, photos(64), lambda features: features["pooled"] @ torch.randn(12))
    assert found.shape == (2, 4, 4)
    assert (found >= 0).all()
    assert found.sum() > 0


def test_an_encoder_without_stages_is_refused() -> None:
    encoder = TinyImage(32, "patches")
    encoder.last_stage = ()
    with pytest.raises(ConfigError, match=r"^--saliency gradient: got random:tiny, which has no stages"):
        gradient_map(encoder, photos(32), lambda features: features["pooled"].sum(1))


# --- boxes for SAM


def test_sam_gives_a_map_of_the_photos_shape_for_a_box(tmp_path: Path) -> None:
    save_sam(tmp_path / "sam-tiny")
    sam = BoxPrompt("owner/sam-tiny", tmp_path)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 60, 3), dtype=np.uint8))
    pixels, shape = sam.pixels(photo)
    assert (pixels.shape, shape) == ((3, 64, 64), (32, 64))
    assert not pixels[:, 32:].any()
    [whole], [part] = (sam.masks(pixels[None], [shape], [box]) for box in ((0, 0, 1, 1), (0.5, 0.5, 0.6, 0.6)))
    assert whole.shape == (math.ceil(whole.shape[1] / 2), whole.shape[1])
    assert 0 <= whole.min() <= whole.max() <= 1
    assert not np.allclose(whole, part)
    boxes = torch.tensor([[[0.0, 0.0, 64.0, 32.0]]])
    theirs = sam.model(pixel_values=pixels[None], input_boxes=boxes, multimask_output=False).pred_masks
    np.testing.assert_allclose(whole, torch.sigmoid(theirs)[0, 0, 0, : len(whole)].numpy(), rtol=1e-5)


def test_another_model_than_a_sam_is_refused(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    with pytest.raises(WeightsError, match=r"^owner/clip: got a model of type 'clip', expected a SAM"):
        BoxPrompt("owner/clip", tmp_path)
    with pytest.raises(WeightsError, match=r"no config\.json, expected the files of owner/sam"):
        BoxPrompt("owner/sam", tmp_path)
