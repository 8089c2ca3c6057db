"""tasks/pretrain/pair_filters.py: which pairs are left out and why; held-out pairs stay; settings that cannot work."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from magic_cli.config import resolve
from magic_cli.errors import ConfigError, DataError
from magic_cli.records import Case, Sample
from magic_cli.submission.pairs import VECTORS
from magic_cli.tasks.pretrain import TASK
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.tasks.pretrain.pair_filters import filtered

CAPTIONS = ("Red scaly plaque", "Nodule", "A very long caption about nothing at all", "Two words", "")


def sample(number: int, caption: str) -> Sample:
    texts = {"raw": {"en": caption}} if caption else {"disease": {"en": "This is a skin photo diagnosed as nevus."}}
    return Sample(f"I{number}", Case(f"c{number}", "train", (f"I{number}",), texts), ())


SAMPLES = [sample(number, caption) for number, caption in enumerate(CAPTIONS)]


def config(*settings: str) -> PretrainConfig:
    made = resolve(PretrainConfig, "tiny", settings)
    assert isinstance(made, PretrainConfig)
    return made


def kept(*settings: str) -> tuple[list[str], str]:
    found = filtered(SAMPLES, config(*settings))
    return [s.id for s in found.samples], found.line


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Cosines 0.1, 0.4, 0.3, 0.2 of the first four photos; the last one has no text."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    cosines = np.array([0.1, 0.4, 0.3, 0.2], np.float32)
    images = np.stack([[1, 0]] * 5).astype(np.float32)
    tensors: dict[str, Any] = {"images": images, "texts": np.stack([cosines, np.sqrt(1 - cosines**2)], 1)}
    tensors["text_of"] = np.array([0, 1, 2, 3, -1])
    save_file(tensors, folder / VECTORS, {"ids": json.dumps([s.id for s in SAMPLES])})
    return folder


def test_without_settings_the_samples_are_the_very_same() -> None:
    assert TASK.learned_from(SAMPLES, config()) is SAMPLES


def test_by_the_length_of_captions_where_there_is_one() -> None:
    assert kept("min_words=2") == (
        ["I0", "I2", "I3", "I4"],
        "1 of 5 training pairs left out: 1 with fewer than 2 words",
    )
    ids, line = kept("min_words=2", "max_words=3")
    assert (ids, line) == (
        ["I0", "I3", "I4"],
        "2 of 5 training pairs left out: 1 with fewer than 2 words, 1 with more than 3 words",
    )


def test_by_similarity(vectors: Path) -> None:
    ids, line = kept("keep_pairs=0.5", f"pair_vectors={vectors}")
    assert ids == ["I1", "I2"]
    assert line.startswith("3 of 5 training pairs left out: 1 without vectors in")
    assert line.endswith("2 of the least similarity (cosine below 0.300)")
    ids, _ = kept("keep_pairs=0.5", "max_words=3", f"pair_vectors={vectors}")
    assert ids == ["I1", "I3"]  # half of those that the other filter leaves


def test_what_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without pair_vectors"):
        config("keep_pairs=0.5")
    with pytest.raises(ConfigError, match="max_words: got 2, expected at least min_words"):
        config("min_words=3", "max_words=2")
    with pytest.raises(DataError, match="no vectors of photos and texts"):
        kept("keep_pairs=0.5", f"pair_vectors={tmp_path}")
    with pytest.raises(DataError, match="filters that leave no pair"):
        filtered(SAMPLES[:4], config("min_words=100"))
