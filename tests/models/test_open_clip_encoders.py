"""models/open_clip_encoders.py on small folders in the layouts of DermLIP and BiomedCLIP."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertTokenizerFast

from magic_cli.errors import WeightsError
from magic_cli.models import open_clip_encoders, weights
from magic_cli.models.contrastive_encoders import contrastive_pair
from magic_cli.models.encoders import TextEncoder
from magic_cli.models.fine_tuning import checkpoint_activations, set_finetuning
from magic_cli.models.open_clip_encoders import _text_config

open_clip = pytest.importorskip("open_clip", reason="pip install open-clip-torch")

BERT = "microsoft/small-bert"
PLAIN = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
TIMM = {"timm_model_name": "test_vit", "timm_model_pretrained": False, "image_size": 160}
HUB_TEXT = {"hf_model_name": BERT, "hf_tokenizer_name": BERT, "hf_proj_type": "mlp", "context_length": 16}
MODELS = {
    "dermlip": PLAIN,
    "biomedclip": {
        "embed_dim": 12,
        "vision_cfg": {**TIMM, "timm_pool": "", "timm_proj": "linear"},
        "text_cfg": {**HUB_TEXT, "hf_pooler_type": "cls_last_hidden_state_pooler"},
    },
    "siglip": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {**TIMM, "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {**PLAIN["text_cfg"], "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    },
}
SIZES = {"dermlip": (32, 16), "biomedclip": (160, 16), "siglip": (160, 16)}


def save(folder: Path, kind: str) -> Path:
    """Save a model with random weights as open_clip does."""
    folder.mkdir(parents=True)
    config = {"model_cfg": MODELS[kind], "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model_config = json.loads(json.dumps(MODELS[kind]))
    if kind == "biomedclip":
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "itch", "skin", "a", "."]
        (folder / "vocab.txt").write_text("\n".join(words))
        BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
        small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        BertConfig(vocab_size=len(words), max_position_embeddings=16, **small).save_pretrained(folder / "small-bert")
        model_config["text_cfg"] |= {"hf_model_name": str(folder / "small-bert"), "hf_model_pretrained": False}
    torch.manual_seed(0)
    is_custom = model_config.pop("custom_text", False) or kind == "biomedclip"
    model = (open_clip.CustomTextCLIP if is_custom else open_clip.CLIP)(**model_config)
    state = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    if kind == "biomedclip":
        torch.save(state, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(state, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("open_clip")
    for kind in MODELS:
        save(root / kind, kind)
    return root


def photos(size: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def whole_of(folder: Path, kind: str) -> torch.nn.Module:
    """Return the library's own model."""
    if kind != "biomedclip":
        return open_clip.create_model(f"local-dir:{folder}").eval()
    text = MODELS[kind]["text_cfg"] | {"hf_model_name": str(folder / "small-bert"), "hf_model_pretrained": False}
    return open_clip.create_model(f"local-dir:{folder}", text_cfg=text).eval()


@pytest.mark.parametrize("kind", list(MODELS))
def test_vectors_are_those_of_the_library(kind: str, folders: Path) -> None:
    size, patch = SIZES[kind]
    images, texts = contrastive_pair(f"owner/{kind}", folders, size, 256)
    images.freeze()
    texts.freeze()
    model, tokenizer = whole_of(folders / kind, kind), open_clip.get_tokenizer(f"local-dir:{folders / kind}")
    said = ["red itch", "a red skin."]
    with torch.no_grad():
        photo_vectors = model.encode_image(images.normalise(photos(size)))
        text_vectors = model.encode_text(tokenizer(said))
    features = images.features(photos(size))
    assert torch.allclose(features["pooled"], photo_vectors, atol=1e-5)
    assert features["patches"].shape == (2, (size // patch) ** 2, images.dim)
    ours = texts.features(texts.batch([texts.join(texts.ids(text), []) for text in said]))["text"]
    assert torch.allclose(ours, text_vectors, atol=1e-5)
    assert texts.dim == images.dim == text_vectors.shape[1]
    assert texts.window == model.text.context_length if kind != "dermlip" else 20
    assert images.log_scale == pytest.approx(model.logit_scale.item())
    assert images.logit_bias == (-10 if kind == "siglip" else None)
    assert images.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


@pytest.mark.parametrize("kind", list(MODELS))
def test_a_patch_has_the_vector_of_a_photo_that_is_pooled_from_it_alone(kind: str, folders: Path) -> None:
    """Normed, then through the same head: written out for open_clip's own transformer and timm's class token."""
    size, _ = SIZES[kind]
    images, _ = contrastive_pair(f"owner/{kind}", folders, size, 256)
    images.freeze()
    visual, x = images.visual, images.normalise(photos(size))
    with torch.no_grad():
        if kind == "dermlip":
            wanted = (visual.ln_post(visual.transformer(visual._embeds(x))) @ visual.proj)[:, 1:]
        elif kind == "biomedclip":
            wanted = visual.head(visual.trunk.forward_features(x)[:, 1:])
        else:
            tokens = visual.trunk.forward_features(x)[:, visual.trunk.num_prefix_tokens :]
            wanted = torch.stack([visual.trunk.attn_pool(tokens[:, [i]]) for i in range(tokens.shape[1])], 1)
    assert torch.allclose(images.features(photos(size))["patches"], wanted, atol=1e-5)


@pytest.mark.parametrize("kind", list(MODELS))
def test_photos_of_another_size(kind: str, folders: Path) -> None:
    images, _ = contrastive_pair(f"owner/{kind}", folders, 64, 256)
    images.freeze()
    assert images.features(photos(64))["patches"].shape == (2, 16, images.dim)


@pytest.mark.parametrize("mode", ["last", "all", "lora", "bitfit", "norm", "prompt"])
@pytest.mark.parametrize("kind", list(MODELS))
def test_what_is_not_trained_stays_bit_identical(kind: str, mode: str, folders: Path) -> None:
    for encoder in contrastive_pair(f"owner/{kind}", folders, 32, 256):
        set_finetuning(encoder, mode, 2)
        encoder.train()
        inputs = photos(32)
        if isinstance(encoder, TextEncoder):
            inputs = encoder.batch([encoder.join(encoder.ids("red itch"), []), encoder.join(encoder.ids("a"), [])])
        before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
        learning = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
        torch.stack([t.pow(2).mean() for t in encoder.features(inputs).values()]).sum().backward()
        assert learning
        assert all(p.grad is not None for p in learning.values())
        torch.optim.AdamW(learning.values(), lr=1e-2).step()
        changed = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
        assert changed
        assert changed <= {name for name in before if encoder.is_trainable(name)}


@pytest.mark.parametrize("kind", list(MODELS))
def test_activations_can_be_computed_anew(kind: str, folders: Path) -> None:
    assert all(checkpoint_activations(encoder) for encoder in contrastive_pair(f"owner/{kind}", folders, 32, 256))


def test_without_the_library_one_line_says_what_to_install(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match=r"run: pip install open-clip-torch"):
        contrastive_pair("owner/dermlip", folders, 32, 77)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    folder = save(tmp_path / "biomedclip", "biomedclip")
    torch.save({"visual.x": Evil()}, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"biomedclip: not a usable checkpoint"):
        contrastive_pair("owner/biomedclip", tmp_path, 160, 77)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"multimodal_cfg": {}}, "no vision_cfg and text_cfg of a CLIP"),
        ({"vision_cfg": {"timm_model_name": "hf-hub:owner/model"}}, "an image encoder of the Hub"),
        ({"text_cfg": {"tokenizer_mode": "clips"}}, "tokenizer_mode 'clips'"),
        ({"text_cfg": {"width": 32}}, "not a usable checkpoint"),
    ],
)
def test_other_models_are_refused(change: dict[str, object], line: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "dermlip", "dermlip")
    config = {"model_cfg": PLAIN | {k: PLAIN.get(k, {}) | v for k, v in change.items()}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=line):
        contrastive_pair("owner/dermlip", tmp_path, 32, 77)


def test_the_text_encoder_of_biomedclip_is_known_and_others_are_asked_for(tmp_path: Path) -> None:
    """BiomedCLIP's folder comes without config.json; that of PubMedBERT is BERT base's."""
    known = _text_config(tmp_path, "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", tmp_path / "place")
    config = json.loads((known / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]) == (768, 12, 30522)
    with pytest.raises(
        WeightsError, match=r"no config.json of its text encoder.*copy it from .*owner/other to .*/other/"
    ):
        _text_config(tmp_path, "owner/other", tmp_path)
    assert open_clip_encoders.OPEN_CLIP_CONFIG == "open_clip_config.json"
