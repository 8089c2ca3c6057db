"""models/contrastive_encoders.py on small CLIP and SigLIP checkpoints: the same vectors as transformers gives."""

import json
import math
from pathlib import Path

import pytest
import torch
from small_models import save_bert, save_clip, save_siglip
from torch import Tensor

from magic_cli import tasks
from magic_cli.config import resolve
from magic_cli.errors import ConfigError, WeightsError
from magic_cli.models.contrastive_encoders import contrastive_pair
from magic_cli.models.efficientnet_lite import Lite0
from magic_cli.models.encoders import Encoder, ImageEncoder, TextEncoder
from magic_cli.models.fine_tuning import checkpoint_activations, set_finetuning
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.encoding import pretrained, text_encoder, text_windows

KINDS = ("clip", "siglip", "siglip2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("contrastive")
    save_clip(root / "clip")
    for kind in ("siglip", "siglip2"):
        save_siglip(root / kind, kind)
    return root


def photos(size: int, count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def pair(folders: Path, kind: str, size: int = 32) -> tuple[ImageEncoder, TextEncoder]:
    images, texts = contrastive_pair(f"owner/{kind}", folders, size, 256)
    images.freeze()
    texts.freeze()
    return images, texts


def theirs(folders: Path, kind: str, pixels: Tensor) -> Tensor:
    """Return the image features of transformers' own whole model."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folders / kind).eval()
    if kind == "siglip2":
        from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

        patches = torch.stack([convert_image_to_patches(photo, 16) for photo in pixels])
        shapes = torch.tensor([[pixels.shape[-1] // 16] * 2] * len(pixels))
        every = torch.ones(patches.shape[:2], dtype=torch.long)
        inputs = {"pixel_values": patches, "pixel_attention_mask": every, "spatial_shapes": shapes}
    else:
        inputs = {"pixel_values": pixels, "interpolate_pos_encoding": True}
    with torch.no_grad():
        return model.get_image_features(**inputs).pooler_output


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [32, 64])
def test_image_vectors_are_those_of_transformers_at_any_size(kind: str, size: int, folders: Path) -> None:
    images, _ = pair(folders, kind, size)
    ours = images.features(photos(size))
    assert torch.allclose(ours["pooled"], theirs(folders, kind, images.normalise(photos(size))), atol=1e-5)
    assert ours["patches"].shape == (2, (size // 16) ** 2, images.dim)
    only = contrastive_pair(f"owner/{kind}", folders, size, 256, "pooled")[0]
    only.freeze()
    assert torch.allclose(only.features(photos(size))["pooled"], ours["pooled"], atol=1e-5)
    assert list(only.features(photos(size))) == ["pooled"]
    assert only.fingerprint != images.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_text_vectors_are_those_of_transformers(kind: str, folders: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    _, texts = pair(folders, kind)
    said = ["red itch", "a"]
    ours = texts.features(texts.batch([texts.join(texts.ids(text), []) for text in said]))["text"]
    tokenizer, model = AutoTokenizer.from_pretrained(folders / kind), AutoModel.from_pretrained(folders / kind).eval()
    if kind == "clip":
        inputs = dict(tokenizer(said, padding=True, return_tensors="pt"))
    else:  # as SigLIP's processor does it: its text encoder was trained on full length, without a mask
        inputs = dict(tokenizer(said, padding="max_length", max_length=12, return_tensors="pt"))
        inputs.pop("attention_mask", None)
    with torch.no_grad():
        assert torch.allclose(ours, model.get_text_features(**inputs).pooler_output, atol=1e-5)
    assert ours.shape == (2, texts.dim)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_shares_one_space_and_its_scale(kind: str, folders: Path) -> None:
    images, texts = pair(folders, kind)
    assert images.projected
    assert images.dim == texts.dim == (12 if kind == "clip" else 16)
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folders / kind)
    assert images.log_scale == pytest.approx(model.logit_scale.item())
    assert images.logit_bias == (None if kind == "clip" else model.logit_bias.item())
    if kind == "clip":
        assert images.log_scale == pytest.approx(math.log(1 / 0.07), abs=1e-3)


def test_clips_patches_are_normed_and_projected(folders: Path) -> None:
    from transformers import CLIPModel

    images, _ = pair(folders, "clip")
    model = CLIPModel.from_pretrained(folders / "clip").eval()
    with torch.no_grad():
        hidden = model.vision_model(pixel_values=images.normalise(photos(32))).last_hidden_state
        wanted = model.visual_projection(model.vision_model.post_layernorm(hidden[:, 1:]))
    assert torch.allclose(images.features(photos(32))["patches"], wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_siglips_patch_is_pooled_alone(kind: str, folders: Path) -> None:
    """With one patch only, the photo's vector is the patch's."""
    images, _ = pair(folders, kind, 16)
    features = images.features(photos(16))
    assert torch.allclose(features["pooled"], features["patches"][:, 0], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_window_is_the_checkpoints_and_longer_texts_are_divided(kind: str, folders: Path) -> None:
    _, texts = pair(folders, kind)
    assert texts.window == (20 if kind == "clip" else 12)
    assert texts.room == texts.window - (2 if kind == "clip" else 1)
    assert contrastive_pair(f"owner/{kind}", folders, 32, 8)[1].window == 8
    text = "red itch skin. a no yes. " * 5
    loaded = [item.load() for item in text_windows(texts, text)]
    assert len(loaded) > 1
    start = len(texts.head)
    assert [token for ids in loaded for token in ids[start:-1]] == texts.ids(text)
    assert torch.isfinite(texts.features(texts.batch(loaded))["text"]).all()


def test_weights_in_half_precision_are_read_as_float32(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip", half=True)
    images, texts = pair(tmp_path, "clip")
    assert {p.dtype for p in (*images.parameters(), *texts.parameters())} == {torch.float32}


def test_a_size_that_patches_do_not_cover_is_refused(folders: Path) -> None:
    with pytest.raises(ConfigError, match=r"got 40, expected a multiple of 16; --set image_size=32"):
        pair(folders, "clip", 40)


# --- what is trained


def sides(folders: Path) -> list[Encoder]:
    return [side for kind in KINDS for side in contrastive_pair(f"owner/{kind}", folders, 32, 256)]


def loss_of(encoder: Encoder) -> Tensor:
    if isinstance(encoder, TextEncoder):
        inputs = encoder.batch([encoder.join(encoder.ids(text), []) for text in ("red itch", "a")])
    else:
        inputs = photos(32)
    return torch.stack([t.pow(2).mean() for t in encoder.features(inputs).values()]).sum()


@pytest.mark.parametrize("mode", ["head", "last", "all", "lora", "bitfit", "norm", "prompt"])
def test_what_is_not_trained_stays_bit_identical_and_the_rest_has_gradients(mode: str, folders: Path) -> None:
    """A parameter without a gradient would stop DistributedDataParallel."""
    for encoder in sides(folders):
        set_finetuning(encoder, mode, 2)
        encoder.train()
        before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
        learning = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
        assert encoder.is_frozen == (mode == "head") == (not learning)
        if not learning:
            continue
        optimizer = torch.optim.AdamW(learning.values(), lr=1e-2)
        for _ in range(2):
            loss_of(encoder).backward()
            assert all(p.grad is not None for p in learning.values())
            optimizer.step()
        changed = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
        assert changed <= {name for name in before if encoder.is_trainable(name)}
        # what softmax cancels has no gradient but rounding
        assert {name for name in learning if name not in changed and "k_proj.bias" not in name} == set()
        if mode in ("lora", "prompt"):
            assert all(f".{mode}." in name for name in learning)
        if mode == "last":
            assert not any(".layers.0." in name or "embeddings" in name for name in changed)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed_activations_give_the_same_gradients(kind: str, folders: Path) -> None:
    for number in (0, 1):
        plain, saving = (contrastive_pair(f"owner/{kind}", folders, 32, 256)[number].train() for _ in range(2))
        assert checkpoint_activations(saving)
        assert any(getattr(module, "gradient_checkpointing", False) for module in saving.modules())
        for encoder in (plain, saving):
            loss_of(encoder).backward()
        pairs = zip(plain.parameters(), saving.parameters(), strict=True)
        assert all(torch.allclose(one.grad, two.grad, atol=1e-6) for one, two in pairs)


def test_batch_statistics_are_not_counted_twice() -> None:
    assert not checkpoint_activations(Lite0(32, "patches"))


# --- by name


def test_the_closed_questions_take_both_encoders_of_a_clip(folders: Path) -> None:
    settings = ("image_size=32", "image_encoder=owner/clip", "text_encoder=owner/clip")
    config = resolve(CvqaConfig, "tiny", settings, weights_dir=str(folders))
    images, texts = pretrained(config, "pooled")
    assert (images.output, images.channels, texts.dim) == ("pooled", (12,), 12)
    assert text_encoder(config).fingerprint == texts.fingerprint
    mixed = resolve(CvqaConfig, "tiny", settings[:2], weights_dir=str(folders))
    assert pretrained(mixed, "patches")[1].source == "random:tiny"


# --- files that are missing, damaged or of another model


def refused(folder: Path, line: str) -> None:
    """Both the check before torch is loaded and the loading itself refuse, in one line that names the folder."""
    settings = ("image_encoder=owner/clip", "text_encoder=owner/clip")
    config = resolve(CvqaConfig, "tiny", settings, weights_dir=str(folder.parent))
    for call in (lambda: tasks.check_weights(config), lambda: contrastive_pair("owner/clip", folder.parent, 32, 77)):
        with pytest.raises(WeightsError, match=line) as raised:
            call()
        assert str(folder) in raised.value.problems[0]
        assert len(raised.value.problems) == 1


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("config.json", "{", "config.json: got no JSON object"),
        ("config.json", None, "got no config.json"),
        ("model.safetensors", None, "got no model.safetensors"),
        ("model.safetensors", "torn", "no header of a safetensors file"),
        ("model.safetensors", "version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.*git lfs pull"),
    ],
)
def test_missing_and_damaged_files_are_named(file: str, content: str | None, line: str, tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    (tmp_path / "clip" / file).unlink()
    if content is not None:
        (tmp_path / "clip" / file).write_text(content)
    refused(tmp_path / "clip", line)


def test_weights_that_were_cut_off_are_named_with_both_sizes(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    path = tmp_path / "clip" / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    refused(tmp_path / "clip", f"{len(whole) - 5} bytes instead of {len(whole)}")


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_bert(tmp_path / "bert")
    with pytest.raises(WeightsError, match=r"config.json: got model_type 'bert', expected clip or siglip or siglip2"):
        contrastive_pair("owner/bert", tmp_path, 32, 77)


def test_weights_that_lack_a_tower_are_refused(tmp_path: Path) -> None:
    """transformers would draw the missing tensors at random, with a warning that nobody reads."""
    from safetensors.torch import load_file, save_file

    save_clip(tmp_path / "clip")
    path = tmp_path / "clip" / "model.safetensors"
    save_file({n: t for n, t in load_file(path).items() if not n.startswith("text")}, path, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"not a usable checkpoint.*no weights for text_"):
        contrastive_pair("owner/clip", tmp_path, 32, 77)


def test_weights_of_other_shapes_are_refused(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    path = tmp_path / "clip" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"projection_dim": 13}))
    with pytest.raises(WeightsError, match="not a usable checkpoint"):
        contrastive_pair("owner/clip", tmp_path, 32, 77)
