"""Image encoders of any folder behind one interface; models/hub/timm_folder.py on small networks of timm."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from small_models import save_bert, save_clip, save_siglip, save_swin
from torch import Tensor, nn
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from magic_cli import tasks
from magic_cli.config import resolve
from magic_cli.errors import ConfigError, WeightsError
from magic_cli.models.cache.features import FeatureCache, Item
from magic_cli.models.encoders import ImageEncoder, Output
from magic_cli.models.fine_tuning import set_finetuning
from magic_cli.models.hub.timm_folder import TimmImage
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.encoding import published_images

TIMM = ("test_vit", "test_resnet", "test_convnext", "test_efficientnet")
KINDS = (*TIMM, "clip", "siglip", "siglip2", "vit", "swin", "lite0", "tiny")
PROJECTED = ("clip", "siglip", "siglip2")


def save_timm(folder: Path, architecture: str) -> nn.Module:
    """Save a network with random weights, its classifier too, as timm does."""
    torch.manual_seed(0)
    net = timm.create_model(architecture, num_classes=5).eval()
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.add_(torch.randn_like(tensor), alpha=0.05)
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, folder / "model.safetensors")
    shown = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "interpolation": "bilinear"}
    (folder / "config.json").write_text(json.dumps({"architecture": architecture, "pretrained_cfg": shown}))
    return net


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    for architecture in TIMM:
        save_timm(root / architecture, architecture)
    save_clip(root / "clip")
    save_siglip(root / "siglip")
    save_siglip(root / "siglip2", "siglip2")
    save_swin(root / "swin")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    ViTModel(ViTConfig(**small, image_size=32, patch_size=16)).save_pretrained(root / "vit")
    ViTImageProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(root / "vit")
    return root


def encoder(kind: str, folders: Path, output: Output) -> ImageEncoder:
    name = kind if kind in ("lite0", "tiny") else f"owner/{kind}"
    config = resolve(CvqaConfig, "tiny", ["image_size=64", f"image_encoder={name}"], weights_dir=str(folders))
    made = published_images(config, output)
    made.freeze()
    return made.eval()


def photos() -> Tensor:
    return torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_folder_gives_a_vector_and_patches_in_the_same_form(kind: str, folders: Path, tmp_path: Path) -> None:
    """(B, D) and (B, P, D), P a square, float32, finite and of any length; cached features are those computed again."""
    made = encoder(kind, folders, "patches")
    found = made.features(photos())
    assert list(found) == ["pooled", "patches"]
    count, dim = found["patches"].shape[1:]
    assert (found["pooled"].shape, made.dim, round(count**0.5) ** 2) == ((2, dim), dim, count)
    assert all(t.dtype == torch.float32 and torch.isfinite(t).all() for t in found.values())
    assert not torch.allclose(found["pooled"].norm(dim=1), torch.ones(2))  # whoever compares them normalises
    assert not torch.equal(found["pooled"][0], found["pooled"][1])
    assert made.projected == (kind in PROJECTED)
    cache, items = FeatureCache(tmp_path, "float32"), [Item(made.key(str(n)), photos()[n].clone) for n in (0, 1)]
    cache.fill(made, items, torch.device("cpu"))
    for number, item in enumerate(items):
        kept, again = cache.read(item.key), made.features(photos()[number : number + 1])
        assert kept is not None
        assert all(torch.allclose(kept[name], again[name][0], atol=1e-5) for name in again)
    assert encoder(kind, folders, "patches").fingerprint == made.fingerprint
    assert encoder(kind, folders, "pooled").fingerprint != made.fingerprint


@pytest.mark.parametrize("kind", [*TIMM, "vit", "lite0", "tiny"])
def test_levels_halve_from_fine_to_coarse(kind: str, folders: Path) -> None:
    made = encoder(kind, folders, "pyramid")
    levels = list(made.features(photos()).values())
    assert tuple(level.shape[1] for level in levels) == made.channels
    sides = [level.shape[-1] for level in levels]
    assert sides == sorted(sides, reverse=True)
    assert all(fine in (coarse, 2 * coarse) for fine, coarse in pairwise(sides))


@pytest.mark.parametrize("kind", TIMM)
def test_a_network_of_timm_gives_what_its_classifier_reads(kind: str, folders: Path, tmp_path: Path) -> None:
    net = save_timm(tmp_path / kind, kind)
    made = encoder(kind, folders, "patches")
    assert made.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert made.resample.name == "BILINEAR"
    if kind == "test_vit":
        net.set_input_size((64, 64))
        made_at_64 = net.state_dict()["pos_embed"].shape
        assert made_at_64[1] == 17
    pixels = made.normalise(photos())
    with torch.no_grad():
        whole = net.forward_features(pixels)
        wanted = net.forward_head(whole, pre_logits=True)
    assert torch.allclose(made.features(photos())["pooled"], wanted, atol=1e-4)
    if kind == "test_vit":
        assert torch.allclose(made.features(photos())["patches"], whole[:, 1:], atol=1e-4)


@pytest.mark.parametrize("mode", ["last", "all", "lora", "bitfit", "norm", "prompt"])
@pytest.mark.parametrize("kind", TIMM)
def test_what_is_tuned_has_gradients_and_the_rest_stays(kind: str, mode: str, folders: Path) -> None:
    for output in ("pyramid", "patches"):
        made = encoder(kind, folders, output)
        if mode == "prompt" and kind != "test_vit":
            with pytest.raises(ConfigError, match="finetune=prompt"):
                set_finetuning(made, mode)
            continue
        set_finetuning(made, mode, 2)
        before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
        learning = {name: p for name, p in made.named_parameters() if p.requires_grad}
        if not learning:
            assert (mode, kind) in (("lora", "test_resnet"), ("lora", "test_convnext"), ("lora", "test_efficientnet"))
            continue
        made.train()
        sum(t.pow(2).mean() for t in made.features(photos()).values()).backward()
        assert {name for name, p in learning.items() if p.grad is None} == set()
        torch.optim.SGD(learning.values(), 0.1).step()
        changed = {name for name, tensor in made.state_dict().items() if not torch.equal(tensor, before[name])}
        assert changed
        assert changed <= {name for name in before if made.is_trainable(name)}


# --- files that are missing or of another model: told before torch is loaded


def check(folder: Path, *settings: str) -> None:
    tasks.check_weights(resolve(CvqaConfig, "tiny", settings, weights_dir=str(folder)))


def test_folders_of_another_kind_are_told_without_torch(tmp_path: Path) -> None:
    save_bert(tmp_path / "bert")
    save_swin(tmp_path / "swin")
    with pytest.raises(WeightsError, match=r"image_encoder owner/bert: got model_type 'bert', expected one of swin"):
        check(tmp_path, "image_encoder=owner/bert")
    with pytest.raises(WeightsError, match=r"text_encoder owner/swin: got model_type 'swin', expected one of texts"):
        check(tmp_path, "text_encoder=owner/swin")
    check(tmp_path, "image_encoder=owner/swin", "text_encoder=owner/bert")
    lines = (
        "import sys; from magic_cli import tasks; from magic_cli.config import resolve;"
        "from magic_cli.tasks.cvqa.config import CvqaConfig;"
        f"c = resolve(CvqaConfig, 'tiny', ['image_encoder=owner/bert'], weights_dir={str(tmp_path)!r})\n"
        "try: tasks.check_weights(c)\n"
        "except Exception as error: print(type(error).__name__, {'torch', 'transformers', 'timm'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["WeightsError", "set()"]


def test_networks_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    save_timm(tmp_path / "net", "test_resnet")
    config = tmp_path / "net" / "config.json"
    config.write_text(json.dumps({"architecture": "resnet_of_nobody"}))
    with pytest.raises(WeightsError, match=r"net: not a usable checkpoint of owner/net \(timm .* has no 'resnet_of_no"):
        TimmImage("owner/net", tmp_path / "net", 64, "pooled")
    config.write_text(json.dumps({"architecture": "test_convnext"}))
    with pytest.raises(WeightsError, match="no weights for stem"):
        TimmImage("owner/net", tmp_path / "net", 64, "pooled")
    (tmp_path / "net" / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(WeightsError, match="a Git LFS pointer"):
        check(tmp_path, "image_encoder=owner/net")
