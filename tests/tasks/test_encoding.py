"""tasks/encoding.py: views of photos, shared windows of texts, and features from the cache or not."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.utils import send_to_device
from PIL import Image
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from magic_cli.config import resolve
from magic_cli.data.questions import load_questions, parse_questions
from magic_cli.errors import ConfigError, DataError, MagicError, WeightsError
from magic_cli.io.files import sha256
from magic_cli.models.augment import turn
from magic_cli.models.cache.features import FeatureCache
from magic_cli.models.encoders import TextEncoder, TinyImage, TinyText
from magic_cli.records import Case, ImageRecord, Sample
from magic_cli.tasks.cvqa import model as cvqa_model
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.encoding import (
    Encoded,
    ToEncode,
    encoded,
    gather,
    photo_item,
    pretrained,
    text_encoder,
    text_item,
    text_windows,
)
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training.loader import to_device
from magic_cli.training.task_model import Batch

CPU = torch.device("cpu")
VIEWS = range(8)
QUESTIONS = load_questions(None)


@pytest.fixture
def record(tmp_path: Path) -> ImageRecord:
    """A photo without any symmetry."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    path = tmp_path / "IMG_1.png"
    Image.fromarray(pixels).save(path)
    return ImageRecord("IMG_1", "ENC1", "train", str(path), 40, 60, sha256=sha256(path))


# --- photos


def test_photo_items_load_their_view(record: ImageRecord) -> None:
    encoder = TinyImage(32, "pooled")
    plain = photo_item(encoder, record, 0).load()
    assert torch.equal(plain, encoder.pixels(Image.open(record.path or "")))
    for view in VIEWS:
        found = photo_item(encoder, record, view).load()
        assert found.is_contiguous()
        assert torch.equal(found, turn(plain, view))


def test_photo_keys_stand_for_content_view_and_orientation(record: ImageRecord, tmp_path: Path) -> None:
    encoder = TinyImage(32, "pooled")
    keys = {photo_item(encoder, record, view).key for view in VIEWS}
    values = {name: getattr(record, name) for name in record.__slots__}
    upright = ImageRecord(**values | {"upright": True})
    other = ImageRecord(**values | {"sha256": "b" * 64})
    keys |= {photo_item(encoder, upright, 0).key, photo_item(encoder, other, 0).key}
    keys.add(photo_item(TinyImage(64, "pooled"), record, 0).key)
    assert len(keys) == 8 + 3
    moved = ImageRecord(**values | {"path": tmp_path / "elsewhere.png", "image_id": "IMG_2", "split": "test"})
    assert photo_item(encoder, moved, 3).key == photo_item(encoder, record, 3).key


def test_exif_orientation_follows_the_record(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 3  # upside down
    photo = Image.new("RGB", (32, 32))
    photo.paste((255, 255, 255), (0, 0, 32, 16))
    photo.save(tmp_path / "x.png", exif=exif)
    encoder = TinyImage(32, "pooled")
    for upright, top in ((False, 255), (True, 0)):
        made = ImageRecord("x", "E", "train", tmp_path / "x.png", 32, 32, upright=upright)
        assert photo_item(encoder, made, 0).load()[:, 0, 0].tolist() == [top] * 3


def test_a_photo_that_was_replaced_since_is_refused(record: ImageRecord) -> None:
    """Its features would be kept, and later be found, as those of the photo that was prepared."""
    assert record.path is not None
    photo = Image.open(record.path)
    photo.transpose(Image.Transpose.ROTATE_180).save(record.path)
    with pytest.raises(DataError, match=r"IMG_1\.png: got another photo, .* run `magic prepare` again"):
        photo_item(TinyImage(32, "pooled"), record, 0).load()


def test_a_photo_that_is_not_there_is_one_line(record: ImageRecord) -> None:
    gone = ImageRecord("IMG_9", "ENC9", "test", None, 40, 60)
    item = photo_item(TinyImage(32, "pooled"), gone, 0)  # asking is allowed, loading is not
    with pytest.raises(DataError, match="IMG_9: no photo; run `magic prepare`") as raised:
        item.load()
    assert raised.value.exit_code == 3


# --- texts


@pytest.mark.parametrize(
    ("question", "answer", "kept"),
    [
        (5, 5, (5, 5)),
        (100, 100, (10, 9)),
        (100, 3, (16, 3)),
        (3, 100, (3, 16)),
        (100, 0, (19, 0)),
        (0, 100, (0, 19)),
        (0, 0, (0, 0)),
        (10, 9, (10, 9)),
        (10, 10, (10, 9)),
    ],
)
def test_both_halves_share_the_window_fairly(question: int, answer: int, kept: tuple[int, int]) -> None:
    class Letters(TextEncoder):
        def ids(self, text: str) -> list[int]:
            return [ord(c) for c in text]

        def preprocessing(self) -> str:
            return "letters"

    encoder = Letters(21, ([1], [2]))
    tokens = text_item(encoder, "q" * question, "a" * answer).load()
    assert tokens == [1, *[ord("q")] * kept[0], *[ord("a")] * kept[1], 2]
    assert len(tokens) <= 21


def test_text_keys_stand_for_both_halves_and_the_window() -> None:
    pairs = [("a b", ""), ("a", "b"), ("", "a b"), ("a", "b c"), ("a b", "c")]
    keys = {text_item(TinyText(window), *pair).key for window in (8, 16) for pair in pairs}
    assert len(keys) == 2 * len(pairs)


# --- batches


@dataclass(frozen=True)
class Pair(Batch):
    ids: list[str]
    shapes: list[tuple[int, int]]
    photos: Encoded | ToEncode
    answers: list[Tensor]
    masks: Tensor | None = None


def test_all_tensors_of_a_batch_are_moved_and_pinned_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """By accelerate and by torch's loader, at any depth; without a copy that waits; the rest stays as it is."""
    inputs = {"input_ids": torch.zeros(2, 3), "attention_mask": torch.ones(2, 3)}
    batch = Pair(["a", "b"], [(3, 4), (5, 6)], ToEncode(inputs, ["x", "y"]), [torch.zeros(1)])
    waits = []
    to = Tensor.to

    def watched(self: Tensor, device: object, non_blocking: bool = False) -> Tensor:
        waits.append(not non_blocking)
        return to(self, "meta")

    monkeypatch.setattr(Tensor, "to", watched)
    pinned = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    [on_meta] = to_device([pin_memory(batch)], torch.device("meta"))
    assert isinstance(on_meta, Pair)
    assert isinstance(on_meta.photos, ToEncode)
    tensors = [*on_meta.photos.inputs.values(), *on_meta.answers]
    assert [tensor.device.type for tensor in tensors] == ["meta"] * 3
    assert (len(pinned), waits) == (3, [False] * 3)
    assert (on_meta.ids, on_meta.shapes, on_meta.photos.keys, on_meta.masks) == (
        batch.ids,
        batch.shapes,
        ["x", "y"],
        None,
    )
    assert batch.answers[0].device.type == "cpu"
    features = send_to_device(Encoded({"pooled": torch.zeros(2)}), torch.device("meta"), non_blocking=True).features
    assert features["pooled"].device.type == "meta"


# --- cache or not


def test_cached_features_are_those_computed_anew(record: ImageRecord, tmp_path: Path) -> None:
    images, texts = TinyImage(32, "pyramid"), TinyText(16)
    cache = FeatureCache(tmp_path / "cache", "float32")
    photos = [photo_item(images, record, view) for view in (0, 5, 3)]
    prompts = [text_item(texts, "a red rash", "eczema"), text_item(texts, "itch", "")]
    for encoder, items in ((images, photos), (texts, prompts)):
        encoder.freeze()
        cache.fill(encoder, items, CPU)
        from_cache, anew = gather(encoder, items, cache), gather(encoder, items, None)
        assert isinstance(from_cache, Encoded)
        assert isinstance(anew, ToEncode)
        found, expected = encoded(encoder, from_cache), encoded(encoder, anew)
        assert set(found) == set(expected)
        for name, tensor in expected.items():
            assert found[name].shape == tensor.shape
            assert torch.allclose(found[name], tensor, atol=1e-6)


def test_an_encoder_that_learns_is_never_read_from_the_cache(record: ImageRecord, tmp_path: Path) -> None:
    encoder = TinyImage(32, "pooled")
    cache = FeatureCache(tmp_path / "cache", "float32")
    items = [photo_item(encoder, record, 0)]
    cache.fill(encoder, items, CPU)
    part = gather(encoder, items, cache)
    assert isinstance(part, ToEncode)
    assert encoded(encoder, part)["pooled"].requires_grad


def test_what_is_lost_from_the_cache_is_computed_and_stored(record: ImageRecord, tmp_path: Path) -> None:
    encoder = TinyImage(32, "pooled")
    encoder.freeze()
    cache, item = FeatureCache(tmp_path, "float32"), photo_item(encoder, record, 0)
    part = gather(encoder, [item], cache)
    assert isinstance(part, ToEncode)
    with torch.inference_mode():
        anew = encoded(encoder, part)["pooled"]
    assert torch.equal(encoded(encoder, gather(encoder, [item], cache))["pooled"], anew)
    assert isinstance(gather(encoder, [item], cache), Encoded)


# --- texts longer than the window


def test_a_text_that_fits_is_one_window_with_the_key_of_the_whole_text() -> None:
    encoder = TinyText(16)
    (item,) = text_windows(encoder, "itchy red rash")
    whole = text_item(encoder, "itchy red rash", "")
    assert (item.key, item.load()) == (whole.key, whole.load())


def test_a_longer_text_is_several_windows_that_hold_every_token() -> None:
    encoder = TinyText(8)
    text = "An itchy red rash. It burns at night, on both of my hands; since two weeks and a day or so."
    items = text_windows(encoder, text)
    loaded = [item.load() for item in items]
    assert [token for window in loaded for token in window[1:]] == encoder.ids(text)
    assert loaded[0] == encoder.join(encoder.ids("An itchy red rash."), [])
    assert all(window[0] == 1 and len(window) <= 8 for window in loaded)
    keys = {item.key for item in items} | {text_item(encoder, text, "").key}
    assert len(keys) == len(items) + 1
    assert not keys & {item.key for item in text_windows(TinyText(9), text)}


# --- encoders by name


def test_the_tiny_encoders_by_name() -> None:
    images, texts = pretrained(resolve(SegConfig, "tiny"), "pyramid")
    assert (type(images), type(texts), images.size, texts.window) == (TinyImage, TinyText, 64, 64)
    assert pretrained(resolve(CvqaConfig, "tiny"), "pooled")[0].channels == (24,)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("image_encoder=resnet", "image_encoder 'resnet': expected lite0, lite1, lite2, tiny or a Hub name"),
        ("text_encoder=bert", "text_encoder 'bert': expected minilm, tiny or a Hub name (owner/name)"),
        ("image_encoder=", "image_encoder '': expected lite0, lite1, lite2, tiny or a Hub name"),
    ],
)
def test_unknown_encoders_are_refused(setting: str, line: str) -> None:
    with pytest.raises(ConfigError) as raised:
        pretrained(resolve(CvqaConfig, "tiny", (setting,)), "pooled")
    assert raised.value.problems == (line,)


@pytest.mark.parametrize("name", ["image_encoder", "text_encoder"])
def test_hub_names_without_weights_are_refused(name: str, tmp_path: Path) -> None:
    config = resolve(CvqaConfig, "tiny", (f"{name}=owner/model",), weights_dir=str(tmp_path))
    with pytest.raises(WeightsError, match=r"model: got no config\.json") as raised:
        pretrained(config, "pooled")
    assert raised.value.exit_code == 5


def test_a_text_encoder_alone_is_built_by_name() -> None:
    config = resolve(SegConfig, "tiny")
    assert isinstance(config, SegConfig)
    assert isinstance(text_encoder(config), TinyText)


# --- who has no photo


def sample(number: int, *images: ImageRecord) -> Sample:
    name = f"ENC{number}"
    answers = QUESTIONS.to_slots(QUESTIONS.empty_sets())
    encounter = Case(name, "train", tuple(i.image_id for i in images), {}, "a rash", "", answers)
    return Sample(name, encounter, images, tuple(QUESTIONS.by_qid))


@pytest.mark.parametrize("head", ["slots", "options"])
def test_learning_from_photos_needs_one(record: ImageRecord, head: str) -> None:
    """Else the means would be of nothing, and the loss NaN."""
    config = resolve(CvqaConfig, "tiny", (f"head={head}",))
    assert isinstance(config, CvqaConfig)
    model = cvqa_model.build(config, QUESTIONS)
    with pytest.raises(MagicError, match="no training encounter has a photo; use --modality text") as raised:
        model.begin([sample(1), sample(2)])
    assert raised.value.exit_code == 3
    model.begin([sample(1), sample(2, record)])
    model.train()
    assert model.loss(model.collate([sample(1), sample(2, record)], [0, 0])).isfinite()


DEFINITIONS = Path(__file__).parents[3] / "shared/data/dermavqa-text/closedquestions_definitions_imageclef2025.json"

WORDED = [
    {"qid": f"Q-{slot}", "question_en": f"{slot} How long?", "options_en": ["2 weeks", "3 weeks (please specify)"]}
    for slot in (1, 2)
]


@pytest.mark.parametrize("head", ["option_term=true", "head=options"])
def test_every_option_of_every_slot_is_an_input_of_its_own(head: str) -> None:
    """Slots of a parent differ in a number before the question, options may differ in a number."""
    config = resolve(CvqaConfig, "tiny", (head,), modality="text")
    assert isinstance(config, CvqaConfig)
    model = cvqa_model.build(config, parse_questions(WORDED, "made"))
    assert model._rows["Q-2"] == [("2 How long?", "2 weeks"), ("2 How long?", "3 weeks (please specify)")]
    if head == "option_term=true":
        assert len(model.options.unique(dim=0)) == 4


@pytest.mark.skipif(not DEFINITIONS.is_file(), reason="../shared/data/dermavqa-text is not here")
def test_all_options_of_the_challenge_are_inputs_of_their_own() -> None:
    config = resolve(CvqaConfig, "tiny", ("head=options",), modality="text")
    assert isinstance(config, CvqaConfig)
    questions = parse_questions(json.loads(DEFINITIONS.read_text("utf-8")), "the challenge")
    rows = [row for slot in cvqa_model.build(config, questions)._rows.values() for row in slot]
    assert len(rows) == len(set(rows)) == sum(slot.size for slot in questions.slots)
