"""Every setting of every task with values it cannot have, and every option of every command: exit 2 or 3, one line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Magic, left, refused

from magic_cli.config import from_dict, settings_of
from magic_cli.errors import ConfigError
from magic_cli.setting import Setting
from magic_cli.tasks import NAMES, config_class

SETTINGS = [(task, setting) for task in NAMES for setting in settings_of(config_class(task)).values()]
TEXTS: dict[Any, tuple[str, ...]] = {
    int: ("", "x", "1.5", "1_0", "٣", "-1", "9" * 400, "9" * 5000, "inf", "nan", "0x10", "1e3"),
    float: ("", "x", "1_0.0", "-1", "-1e-9", "9" * 400, "1e400", "inf", "-inf", "nan", "1,5", "1e7"),
    bool: ("", "maybe", "2", "tru", "None"),
    str: ("a\x1b[31mb", "a\0b", "a\nb", "right\u202eleft"),
}
VALUES: dict[Any, tuple[Any, ...]] = {
    int: (None, True, "1", 1.5, [1], {}, -1, 10**400),
    float: (None, True, "1", [1.0], {}, -1.0, float("nan"), float("inf"), 10**400),
    bool: (None, 0, "true", [True], {}),
    str: (None, 7, True, ["a"], {}, "a\x1b[31mb"),
}


def texts(setting: Setting) -> Iterator[str]:
    yield from TEXTS[setting.value_type]
    if setting.choices:
        yield from ("", "nonsense", setting.choices[0].upper() + " ")


@pytest.mark.parametrize(("task", "setting"), SETTINGS, ids=[f"{task}-{setting.name}" for task, setting in SETTINGS])
def test_no_setting_takes_what_it_cannot_have(magic: Magic, ready: Path, task: str, setting: Setting) -> None:
    """As `--set`, and as a value in a checkpoint."""
    for text in texts(setting):
        words = ("train", task, "--preset", "tiny", "--data", ready, "--set", f"{setting.name}={text}")
        refused(magic(*words), 3, setting.name)
    for value in (*VALUES[setting.value_type], *(("nonsense",) if setting.choices else ())):
        with pytest.raises(ConfigError, match=setting.name):
            from_dict(config_class(task), {setting.name: value}, "best.pt")
    assert left(Path()) == []


def test_the_tables_above_know_every_type() -> None:
    assert {setting.value_type for _, setting in SETTINGS} == set(TEXTS) == set(VALUES)


WORDS = {
    "no such setting": (3, "train", "seg", "--set", "bach_size=3"),
    "no value": (3, "train", "seg", "--set", "epochs"),
    "no name": (3, "train", "seg", "--set", "=3"),
    "control characters": (3, "train", "seg", "--set", "\x1b]0;owned\x07=3"),
    "no such preset": (3, "train", "seg", "--preset", "../../small"),
    "no such task": (2, "train", "../seg"),
    "one fold": (2, "train", "seg", "--folds", 1),
    "more folds than encounters": (3, "train", "cvqa", "--preset", "tiny", "--folds", 1000),
    "no such score": (3, "train", "cvqa", "--preset", "tiny", "--set", "epochs=1", "--set", "monitor=luck"),
    "no such encoder": (3, "train", "cvqa", "--preset", "tiny", "--set", "text_encoder=best"),
    "no such image encoder": (3, "train", "seg", "--preset", "tiny", "--set", "image_encoder=best"),
    "an encoder outside": (3, "train", "cvqa", "--preset", "tiny", "--set", "text_encoder=../../etc"),
    "no such modality": (2, "train", "cvqa", "--preset", "tiny", "--modality", "smell"),
    "no such tuning": (2, "train", "cvqa", "--preset", "tiny", "--finetune", "some"),
    "the former name of an option": (2, "train", "cvqa", "--preset", "tiny", "--tune", "all"),
    "the former name of a setting": (3, "train", "cvqa", "--preset", "tiny", "--set", "joint=true"),
    "a seed below zero": (3, "train", "cvqa", "--preset", "tiny", "--seed", -1),
    "a seed that is text": (2, "train", "cvqa", "--seed", "x"),
    "no such device": (2, "train", "cvqa", "--preset", "tiny", "--device", "tpu"),
    "no such weights": (5, "train", "seg", "--preset", "paper", "--weights", "nowhere"),
    "no checkpoint": (2, "predict", "seg"),
    "a limit of none": (2, "predict", "seg", "--ckpt", "x", "--limit", 0),
    "a threshold above one": (2, "predict", "seg", "--ckpt", "x", "--threshold", 2),
    "no such split": (2, "package", "--cvqa", "x.json", "--split", "tset"),
    "a vote of one": (2, "predict", "cvqa", "--vote", "x.json"),
    "a vote on masks": (2, "predict", "seg", "--vote", "a", "b"),
    "no gold": (2, "score", "one.json"),
    "official and strict": (2, "score", "a", "b", "--official", "--strict"),
    "few resamples": (2, "score", "a", "b", "--resamples", 1),
    "no workers": (2, "score", "a", "b", "--workers", 0),
    "empty against empty": (2, "score", "a.json", "b.json", "--empty", "maybe"),
    "no such merge": (2, "prepare", "--data", ".", "--merge", "xor"),
    "no such prompt": (2, "prepare", "--data", ".", "--prompt", "poem"),
    "no predictions": (2, "package"),
    "no such command": (2, "frobnicate"),
    "no such option": (2, "doctor", "--frobnicate"),
    "no such demo": (2, "demo", "--preset", "huge"),
}


@pytest.mark.parametrize("how", WORDS)
def test_no_option_takes_what_it_cannot_have(magic: Magic, ready: Path, how: str) -> None:
    code, *words = WORDS[how]
    Path("prepared").symlink_to(ready)
    Path("x.json").write_text("[]")
    refused(magic(*words), int(code))
    assert left(Path("predictions")) == left(Path("submission.zip")) == left(Path("magic-demo")) == []


@pytest.mark.parametrize("text", ["x", "0", "-1", "nan"])
def test_no_limit_of_the_cache(magic: Magic, ready: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", text)
    refused(magic("train", "cvqa", "--preset", "tiny", "--modality", "text", "--data", ready), 3, "MAGIC_CACHE_GB")
    ended = magic("doctor")
    assert ended.code == 3
    assert "MAGIC_CACHE_GB" in ended.out
