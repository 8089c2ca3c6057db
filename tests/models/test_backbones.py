"""models/backbones.py on small SegFormer, Swin, ConvNeXt and DINO checkpoints, saved as those of the Hub are."""

import copy
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from run_options import predict_options, train_options
from torch import Tensor
from transformers import BertConfig, BertModel, BitImageProcessor, PreTrainedModel

from magic_cli import tasks
from magic_cli.commands import predict, train
from magic_cli.config import resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import ConfigError, WeightsError
from magic_cli.models.backbones import Backbone, backbone, simple_pyramid
from magic_cli.models.fine_tuning import set_finetuning
from magic_cli.models.huggingface import SwinLevels, SwinPooled
from magic_cli.models.weights import BACKBONES
from magic_cli.tasks.encoding import published_images
from magic_cli.tasks.retrieve.config import RetrieveConfig
from magic_cli.tasks.retrieve.model.encoders import level_encoders
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training import checkpoint

FOUR = {"depths": [1, 1, 1, 1]}
VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 28}
SWIN = {**FOUR, "embed_dim": 8, "num_heads": [1, 1, 2, 2], "window_size": 2, "image_size": 32}
WIDTHS = {**FOUR, "hidden_sizes": [8, 8, 16, 16]}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {  # as the weights on the Hub: most with a classifier
    "segformer": ("SegformerForImageClassification", {**WIDTHS, "num_attention_heads": [1, 1, 2, 2]}),
    "swin": ("SwinForImageClassification", SWIN),
    "swinv2": ("Swinv2ForImageClassification", SWIN),
    "convnext": ("ConvNextForImageClassification", WIDTHS),
    "convnextv2": ("ConvNextV2ForImageClassification", WIDTHS),
    "dinov2": ("Dinov2Model", {**VIT, "patch_size": 14}),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", {**VIT, "patch_size": 14, "num_register_tokens": 2}),
    "dinov3_vit": ("DINOv3ViTModel", {**VIT, "patch_size": 16, "num_register_tokens": 2}),
    "dinov3_convnext": ("DINOv3ConvNextModel", WIDTHS),
    "vit": ("ViTForImageClassification", {**VIT, "patch_size": 16, "image_size": 32}),
}
ISOTROPIC = ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit")
SIZE = {kind: 56 if "dinov2" in kind else 64 for kind in FAMILIES}


def save(kind: str, folder: Path) -> PreTrainedModel:
    """Save a model of random weights, none of them zero or one, with its processor."""
    name, settings = FAMILIES[kind]
    model_class = getattr(transformers, name)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**settings)).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor), alpha=0.2)
    model.save_pretrained(folder)
    BitImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.25, 0.3]).save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all families, each under the name of its kind."""
    root = tmp_path_factory.mktemp("backbones")
    for kind in FAMILIES:
        save(kind, root / kind)
    return root


@cache
def loaded(kind: str, folder: Path, output: Any) -> Backbone:
    return backbone(f"owner/{kind}", folder, SIZE[kind], output)


def make(kind: str, folder: Path, output: Any = "pyramid") -> Backbone:
    return copy.deepcopy(loaded(kind, folder, output))


def photos(size: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def test_every_family_is_tested() -> None:
    assert set(FAMILIES) == set(BACKBONES)


@pytest.mark.parametrize("kind", FAMILIES)
def test_levels_are_those_of_transformers_own_forward(kind: str, folder: Path) -> None:
    """The backbone's feature maps, or SegFormer's hidden states; of a plain transformer each resampled."""
    encoder = make(kind, folder)
    encoder.freeze()
    pixels = photos(SIZE[kind])
    levels = encoder.features(pixels)
    sides = [level.shape[-1] for level in levels.values()]
    assert list(levels) == ["p0", "p1", "p2", "p3"]
    assert sides == [16, 8, 4, 2]
    assert tuple(level.shape[1] for level in levels.values()) == encoder.channels
    assert encoder.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert int(encoder.resample) == 3  # bicubic, the processor's
    name, _ = FAMILIES[kind]
    with torch.no_grad():
        if kind == "segformer":
            whole = getattr(transformers, name).from_pretrained(folder / kind)
            theirs = whole(pixel_values=encoder.normalise(pixels), output_hidden_states=True).hidden_states
        elif kind == "vit":  # transformers has no backbone of it; as DINOv2's: each through the last norm
            whole = transformers.ViTModel.from_pretrained(folder / kind, add_pooling_layer=False).eval()
            more = {"output_hidden_states": True, "interpolate_pos_encoding": True}
            hidden = whole(pixel_values=encoder.normalise(pixels), **more).hidden_states[1:]
            theirs = [whole.layernorm(level)[:, 1:].transpose(1, 2).unflatten(2, (4, 4)) for level in hidden]
        else:
            config = transformers.AutoConfig.from_pretrained(folder / kind, out_indices=[1, 2, 3, 4])
            whole = transformers.MODEL_FOR_BACKBONE_MAPPING[type(config)].from_pretrained(folder / kind, config=config)
            theirs = whole(pixel_values=encoder.normalise(pixels)).feature_maps
    theirs = simple_pyramid(theirs) if kind in ISOTROPIC else theirs
    pairs = zip(levels.values(), theirs, strict=True)
    assert all(torch.allclose(ours, level, atol=1e-5) for ours, level in pairs)  # memory may be aligned differently


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if not kind.startswith("swin")])
def test_the_vector_is_the_one_that_the_networks_classifier_reads(kind: str, folder: Path) -> None:
    encoder = make(kind, folder, "patches")
    encoder.freeze()
    features = encoder.features(photos(SIZE[kind]))
    patches = (SIZE[kind] // encoder.stride) ** 2
    assert features["pooled"].shape == (2, encoder.channels[0])
    assert features["patches"].shape == (2, patches, encoder.channels[0])
    normalised = encoder.normalise(photos(SIZE[kind]))
    with torch.no_grad():
        more = {"interpolate_pos_encoding": True} if kind == "vit" else {}
        whole = transformers.AutoModel.from_pretrained(folder / kind).eval()(pixel_values=normalised, **more)
        if kind == "segformer":
            classifier = transformers.SegformerForImageClassification.from_pretrained(folder / kind)
            logits = classifier(pixel_values=normalised).logits
            assert torch.allclose(classifier.classifier(features["pooled"]), logits, atol=1e-6)
        else:
            reads = whole.last_hidden_state[:, 0] if kind == "vit" else whole.pooler_output
            assert torch.allclose(features["pooled"], reads, atol=1e-6)
    alone = make(kind, folder, "pooled").eval()
    assert list(alone(photos(SIZE[kind]))) == ["pooled"]
    assert len({encoder.fingerprint, alone.fingerprint, make(kind, folder).fingerprint}) == 3


def test_swin_keeps_the_vector_it_had_and_has_patches(folder: Path) -> None:
    config = resolve(SegConfig, "tiny", ["image_encoder=owner/swin"], weights_dir=str(folder))
    old, new = published_images(config, "pooled").eval(), published_images(config, "patches").eval()
    assert type(old) is SwinPooled
    with torch.no_grad():
        pooled, both = old(photos(64))["pooled"], new(photos(64))
    assert torch.allclose(both["pooled"], pooled, atol=1e-6)
    assert torch.allclose(both["patches"].mean(1), pooled, atol=1e-6)


def test_a_simple_pyramid_keeps_a_constant_and_halves_each_side() -> None:
    maps = [torch.full((1, 2, 5, 5), float(number)) for number in range(4)]
    levels = simple_pyramid(maps)
    assert [tuple(level.shape) for level in levels] == [(1, 2, side, side) for side in (20, 10, 5, 3)]
    assert all(torch.allclose(level, torch.tensor(float(number))) for number, level in enumerate(levels))
    ramp = torch.arange(32.0).view(1, 2, 4, 4)
    assert torch.equal(simple_pyramid([ramp, ramp])[0], ramp)


@pytest.mark.parametrize("mode", ["head", "last", "all", "lora", "bitfit", "norm", "prompt"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_gradients_reach_what_is_trained_and_all_of_it(kind: str, mode: str, folder: Path) -> None:
    """A parameter without a gradient would stop several processes, and be saved in vain."""
    for output in ("pyramid", "patches") if mode in ("all", "bitfit", "norm", "prompt") else ("pyramid",):
        encoder = make(kind, folder, output)
        if mode == "prompt" and kind not in ISOTROPIC:
            with pytest.raises(ConfigError, match="finetune=prompt: got an encoder without"):
                set_finetuning(encoder, mode)
            continue
        set_finetuning(encoder, mode, 2)
        encoder.train()
        total = sum(level.float().pow(2).mean() for level in encoder.features(photos(SIZE[kind])).values())
        learning = {name for name, p in encoder.named_parameters() if p.requires_grad}
        assert encoder.is_frozen == (mode == "head") == (not learning)
        if mode == "head":
            assert not total.requires_grad
            continue
        total.backward()
        assert learning == {name for name, p in encoder.named_parameters() if p.grad is not None}
        if mode in ("lora", "prompt"):
            assert all(f".{mode}." in name for name in learning)
        if mode == "last":
            stage = tuple(f"{path}." for path in encoder.last_stage)
            assert learning == {name for name, _ in encoder.named_parameters() if name.startswith(stage)}
        if mode == "all":
            unread = {name for name, _ in encoder.named_parameters() if name not in learning}
            assert unread == ({n for n in unread if n.startswith("net.swin.layernorm.")} if kind == "swin" else set())


@pytest.mark.parametrize("kind", FAMILIES)
def test_stages_hold_each_part_once(kind: str, folder: Path) -> None:
    for output in ("pyramid", "patches"):
        stages = make(kind, folder, output).stages
        paths = [path for stage in stages for path in stage]
        assert len(stages) == 4
        assert len(paths) == len(set(paths))
        assert not any(a != b and a.startswith(f"{b}.") for a in paths for b in paths)


def test_first_stages_can_be_frozen(folder: Path) -> None:
    for kind in FAMILIES:
        encoder = make(kind, folder)
        set_finetuning(encoder, "all", 2, frozen_stages=3)
        learning = {name for name, p in encoder.named_parameters() if p.requires_grad}
        assert learning
        assert learning == {n for n, _ in encoder.named_parameters() if n.startswith(tuple(encoder.last_stage))}
        with pytest.raises(ConfigError, match=r"frozen_stages: got 4 .* expected fewer than 4"):
            set_finetuning(encoder, "all", 2, frozen_stages=4)


@pytest.mark.parametrize(
    ("kind", "size", "multiple", "remedy"),
    [("dinov2", 512, 14, 504), ("dinov3_vit", 100, 16, 96), ("convnext", 50, 32, 32), ("segformer", 130, 32, 128)],
)
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(
    kind: str, size: int, multiple: int, remedy: int, folder: Path
) -> None:
    with pytest.raises(ConfigError) as raised:
        backbone(f"owner/{kind}", folder, size, "pyramid")
    (line,) = raised.value.problems
    assert f"image_size of owner/{kind}: got {size}, expected a multiple of {multiple}" in line
    assert f"--set image_size={remedy}" in line


def test_other_models_have_no_pyramid(tmp_path: Path) -> None:
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=8, **small)).save_pretrained(tmp_path / "bert")
    config = resolve(SegConfig, "tiny", ["image_encoder=owner/bert"], weights_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="'owner/bert': got model_type 'bert', expected for pyramid, one of swin, "):
        published_images(config, "pyramid")


@pytest.mark.parametrize("output", ["pyramid", "patches"])
def test_weights_that_lack_a_tensor_are_refused(output: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save("dinov2", tmp_path / "dinov2")
    file = tmp_path / "dinov2" / "model.safetensors"
    tensors = load_file(file)
    del tensors["layernorm.bias"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"not a usable checkpoint of owner/dinov2 \(no weights for layernorm\.bias"):
        make("dinov2", tmp_path, output)


def test_half_precision_weights_are_read_in_float32_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save("swin", tmp_path / "swin").half().save_pretrained(tmp_path / "swin")
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        encoder = make("swin", tmp_path)
    assert {tensor.dtype for tensor in encoder.parameters()} == {torch.float32}
    assert ("".join(capfd.readouterr()), caught) == ("", [])


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_without_weights_preset_large_says_what_to_download(task: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as raised:
        tasks.check_weights(resolve(tasks.config_class(task), "large", weights_dir=str(tmp_path)))
    (line,) = raised.value.problems
    assert line.startswith(f"{tmp_path / 'dinov2-base'}: got no config.json")
    assert "https://huggingface.co/facebook/dinov2-base to DIR/dinov2-base/ and add: --weights DIR" in line


def test_retrieval_reads_the_last_levels_of_any_family(folder: Path) -> None:
    made: Callable[[str], Any] = lambda name: level_encoders(  # noqa: E731
        resolve(RetrieveConfig, "tiny", [f"image_encoder=owner/{name}", "image_size=64"], weights_dir=str(folder))
    )[0]
    assert type(made("swin")) is SwinLevels
    assert made("segformer").channels == (8, 8, 16, 16)


@pytest.mark.parametrize(("task", "kind"), [("seg", "dinov2"), ("seg", "convnext"), ("cvqa", "dinov2")])
def test_preset_large_trains_predicts_and_loads_again(
    task: str, kind: str, folder: Path, drawn_prepared: Path, tmp_path: Path
) -> None:
    """One epoch on drawn photos, with tiny encoders and a narrow decoder."""
    tiny = ["epochs=1", "workers=0", f"image_size={SIZE[kind]}", f"image_encoder=owner/{kind}", "text_encoder=tiny"]
    tiny += ["width=4", "tta=none", "precision=no"] if task == "seg" else []
    options = train_options(tmp_path / "cache", *tiny, preset="large", weights=folder)
    train.train(task, drawn_prepared, tmp_path / "run", options)
    meta, kept = checkpoint.load_best(tmp_path / "run" / "best.pt", task)
    assert any(name.startswith("images.") for name in kept) == (task == "seg")
    assert meta.config["weights_dir"] == str(folder)
    ckpt, again = tmp_path / "run" / "best.pt", predict_options(tmp_path / "cache")
    made = predict.predict(task, ckpt, drawn_prepared, "test", tmp_path / "out", again)
    assert made.files == (2 if task == "cvqa" else len(open_prepared(drawn_prepared).images_of("test")))
