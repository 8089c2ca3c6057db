"""config.py: presets load for every task, settings win in the documented order, mistakes are named all at once."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from magic_cli import preset_files
from magic_cli.config import Config, from_dict, resolve, settings_of
from magic_cli.errors import ConfigError
from magic_cli.preset_files import shipped_presets
from magic_cli.setting import FRACTION, Range
from magic_cli.tasks import NAMES, config_class
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.seg.config import SegConfig

TASKS = NAMES


def lines(task: str, *args: Any, **flags: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        resolve(config_class(task), *args, **flags)
    assert raised.value.exit_code == 3
    return raised.value.problems


@pytest.fixture
def presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of presets of the test's own."""
    monkeypatch.setattr(preset_files, "PRESETS", tmp_path)
    return tmp_path


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("preset", shipped_presets())
def test_every_preset_loads_for_every_task(task: str, preset: str) -> None:
    found = resolve(config_class(task), preset)
    assert type(found) is config_class(task)
    assert found.preset == preset
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()
    again = from_dict(config_class(task), json.loads(json.dumps(found.as_dict())), "best.pt")
    assert again == found


def test_shipped_presets_are_the_documented_ones() -> None:
    assert shipped_presets() == ("large", "paper", "quick", "small", "tiny")
    seg, cvqa = resolve(SegConfig, "paper"), resolve(CvqaConfig, "paper")
    assert (seg.image_encoder, seg.image_size, seg.lr) == ("CIDAS/clipseg-rd64-refined", 352, 9e-4)
    assert (seg.batch_size, seg.epochs, seg.finetune) == (32, 30, "head")
    assert (cvqa.image_size, cvqa.text_window, cvqa.lr, cvqa.epochs, cvqa.dropout) == (224, 128, 5e-4, 10, 0.1)
    assert seg.loss == "bce"
    assert (cvqa.head, cvqa.sample_unit) == ("options", "question")
    for task in TASKS:
        small, tiny = resolve(config_class(task), "small"), resolve(config_class(task), "tiny")
        assert (small.image_encoder, small.text_encoder) == ("lite0", "minilm")
        assert (tiny.image_encoder, tiny.text_encoder, tiny.image_size) == ("tiny", "tiny", 64)
    assert Config().preset == "small"


@pytest.mark.parametrize("preset", shipped_presets())
def test_every_preset_is_checked_against_the_ranges(preset: str) -> None:
    """The check is not switched off for what comes from a file: one value out of range, and it fails."""
    for task in TASKS:
        assert lines(task, preset, dropout=1.0) == ("dropout: got 1.0, expected a number in [0, 1)",)


def test_a_preset_of_ones_own_is_checked_like_all_others(presets: Path) -> None:
    (presets / "mine.toml").write_text('[shared]\nepochs = 3\n[seg]\nlr = 1\nwidth = "wide"\nepoch = 4\n')
    assert shipped_presets() == ("mine",)
    assert resolve(CvqaConfig, "mine").epochs == 3
    assert lines("seg", "mine") == (
        "mine.toml:5: width: got text, expected a whole number",
        "mine.toml:6: epoch: no such setting for task 'seg'; did you mean epochs?",
    )
    (presets / "mine.toml").write_text("[seg]\nlr = 1\n")
    lr = resolve(SegConfig, "mine").lr
    assert (lr, type(lr)) == (1.0, float)  # a whole number is a number


def test_set_wins_over_flags_over_the_tasks_table_over_the_shared_one(presets: Path) -> None:
    (presets / "p.toml").write_text("[shared]\nepochs = 2\nbatch_size = 2\nlr = 0.5\nrank = 2\n[seg]\nlr = 0.25\n")
    assert resolve(SegConfig, "p").rank == 2
    assert (resolve(SegConfig, "p").lr, resolve(CvqaConfig, "p").lr) == (0.25, 0.5)
    assert resolve(SegConfig, "p", (), epochs=3, batch_size=None).epochs == 3
    assert resolve(SegConfig, "p", (), epochs=3, batch_size=None).batch_size == 2
    assert resolve(SegConfig, "p", ("epochs=4",), epochs=3).epochs == 4
    assert resolve(SegConfig, "p", ("epochs=4", "epochs=5"), epochs=3).epochs == 5


@pytest.mark.parametrize(
    ("pair", "name", "value"),
    [
        ("epochs=7", "epochs", 7),
        ("lr=2", "lr", 2.0),
        ("lr=1e-3", "lr", 1e-3),
        ("rules=off", "rules", False),
        ("rules=No", "rules", False),
        ("rules=TRUE", "rules", True),
        ("rules=1", "rules", True),
        ("weights_dir=/a=b", "weights_dir", "/a=b"),
        ("monitor=", "monitor", ""),
        ("seed=0", "seed", 0),
        (f"seed={2**32 - 1}", "seed", 2**32 - 1),
    ],
)
def test_set_converts_to_the_settings_type(pair: str, name: str, value: object) -> None:
    found = getattr(resolve(CvqaConfig, "tiny", (pair,)), name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("pair", "line"),
    [
        ("epochs", "--set epochs: expected key=value, such as --set epochs=5"),
        ("", "--set : expected key=value, such as --set epochs=5"),
        ("epochs=", "--set epochs=: expected a whole number"),
        ("epochs=2.5", "--set epochs=2.5: expected a whole number"),
        ("lr=fast", "--set lr=fast: expected a number"),
        ("rules=maybe", "--set rules=maybe: expected true or false"),
        ("epoch=5", "--set epoch=5: no such setting for task 'cvqa'; did you mean epochs?"),
        ("batchsize=5", "--set batchsize=5: no such setting for task 'cvqa'; did you mean batch_size?"),
        ("loss=bce", "--set loss=bce: no such setting for task 'cvqa'; "),
        ("preset=paper", "--set preset=paper: no such setting for task 'cvqa'; "),
        ("epochs=0", "epochs: got 0, expected at least 1"),
        ("lr=nan", "lr: got nan, expected at least 1e-09"),
        ("lr=inf", "lr: got inf, expected at most 1000000"),
        ("lr=-1", "lr: got -1.0, expected at least 1e-09"),
        ("image_size=31", "image_size: got 31, expected at least 32"),
        ("workers=-1", "workers: got -1, expected at least 0"),
        ("holdout_fraction=1", "holdout_fraction: got 1.0, expected a number in [0, 1)"),
        ("dropout=-0.1", "dropout: got -0.1, expected a number in [0, 1)"),
        ("dropout=1.5", "dropout: got 1.5, expected a number in [0, 1)"),
        ("warmup=1", "warmup: got 1.0, expected a number in [0, 1)"),
        ("modality=images", "modality: got 'images', expected one of both, text, image, concepts"),
        ("finetune=none", "finetune: got 'none', expected one of head, last, all, lora"),
        ("rank=0", "rank: got 0, expected at least 1"),
        (f"seed={2**32}", f"seed: got {2**32}, expected at most {2**32 - 1}"),
    ],
)
def test_each_mistake_is_one_line(pair: str, line: str) -> None:
    [found] = lines("cvqa", "tiny", (pair,))
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("pair", "line"),
    [
        ("threshold=1", "threshold: got 1.0, expected a number in [0, 1)"),
        ("threshold=-0.1", "threshold: got -0.1, expected a number in [0, 1)"),
        ("crop=0", "crop: got 0.0, expected a number in (0, 1]"),
        ("colour=1.5", "colour: got 1.5, expected at most 1"),
        ("threshold_for=iou", "threshold_for: got 'iou', expected one of none, jaccard_meanofmax, "),
        ("loss=dice", "loss: got 'dice', expected one of bce, bce+dice"),
    ],
)
def test_choices_of_segmentation(pair: str, line: str) -> None:
    [found] = lines("seg", "tiny", (pair,))
    assert found.startswith(line)


def test_all_set_pairs_are_looked_at_before_the_first_complaint() -> None:
    found = lines("seg", "tiny", ("epoch=5", "width=64", "lr=x", "naked", "batch_size=1.5"))
    assert [line.split(":")[0] for line in found] == [
        "--set epoch=5",
        "--set lr=x",
        "--set naked",
        "--set batch_size=1.5",
    ]


def test_all_values_out_of_range_are_listed_at_once() -> None:
    found = lines("seg", "tiny", ("epochs=0", "loss=dice", "dropout=2", "grad_clip_norm=0", "crop=2"))
    assert sorted(line.split(":")[0] for line in found) == ["crop", "dropout", "epochs", "grad_clip_norm", "loss"]


def test_from_dict_lists_all_wrong_types_and_unknown_keys() -> None:
    values = {"epochs": True, "lr": "1e-3", "rules": 1, "preset": None, "widht": 3, "seed": 1.0, "dropout": False}
    with pytest.raises(ConfigError) as raised:
        from_dict(CvqaConfig, values, "best.pt:")
    assert raised.value.problems == (
        "best.pt: epochs: got true or false, expected a whole number",
        "best.pt: lr: got text, expected a number",
        "best.pt: rules: got a whole number, expected true or false",
        "best.pt: preset: got null, expected text",
        "best.pt: widht: no such setting for task 'cvqa'; did you mean width?",
        "best.pt: seed: got a number, expected a whole number",
        "best.pt: dropout: got true or false, expected a number",
    )


def test_unknown_presets_name_the_nearest() -> None:
    assert lines("seg", "smal") == ("--preset smal: no such preset; did you mean small?",)
    assert lines("seg", "zzz") == ("--preset zzz: no such preset; known: large, paper, quick, small, tiny",)
    for name in ("../presets/small", "", "small.toml"):
        [line] = lines("seg", name)
        assert line.startswith(f"--preset {name}: no such preset")


def test_flags_are_range_checked_too() -> None:
    expected = "modality: got 'sound', expected one of both, text, image, concepts"
    assert lines("cvqa", "tiny", (), modality="sound") == (expected,)


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_photos_too_small_for_batch_normalisation(task: str) -> None:
    small = ("image_size=32", "finetune=all", "image_encoder=lite0")
    [line] = lines(task, "small", small)
    assert line.startswith("image_size: got 32 with finetune=all, expected at least 64")
    for fine in (("image_size=32", "finetune=head"), ("image_size=64", "finetune=all")):
        resolve(config_class(task), "small", fine)


def test_conflicts_between_settings_are_listed_with_values_out_of_range() -> None:
    found = lines("cvqa", "tiny", ("lang=en,fr", "joint_slots=true", "decode=slot", "epochs=0"))
    assert [line.split(":")[0] for line in found] == ["epochs", "lang", "joint_slots"]


@pytest.mark.parametrize("task", TASKS)
def test_former_names_are_refused_with_the_new_ones(task: str, presets: Path) -> None:
    """As --set all of them, a line each; in a file one line for all of them. No new name is a former one."""
    former = config_class(task).former_names
    (presets / "p.toml").write_text("")
    assert lines(task, "p", [f"{name}=1" for name in former]) == tuple(
        f"--set {name}=1: renamed; use {new}=1" for name, new in former.items()
    )
    assert set(former.values()) <= set(settings_of(config_class(task))) - set(former)
    with pytest.raises(ConfigError) as raised:
        from_dict(config_class(task), {"epochs": 3, "tune": "all", "clip": 1.0}, "runs/state.pt")
    new = "tune is now finetune, clip is now grad_clip_norm"
    line = f"runs/state.pt from an earlier version: {new}; use the new names, or train again"
    assert raised.value.problems == (line,)


def test_former_names_of_closed_questions_are_unknown_to_segmentation() -> None:
    assert lines("cvqa", "tiny", ("bag=0",)) == ("--set bag=0: renamed; use hashed_words=0",)
    [line] = lines("seg", "tiny", ("bag=0",))
    assert line.startswith("--set bag=0: no such setting for task 'seg'")


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        (Range(1, 3), (1, 2.5, 3), (0.9, 3.1, float("nan"), 10**400)),
        (FRACTION, (0, 0.999), (1, -0.1, float("inf"))),
        (Range(0, 1, open_low=True), (1e-300, 1), (0, 1.1)),
    ],
)
def test_bounds(bounds: Range, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    assert [value in bounds for value in inside] == [True] * len(inside)
    assert [value in bounds for value in outside] == [False] * len(outside)


@pytest.mark.parametrize("task", TASKS)
def test_every_field_declares_a_plain_type_its_bounds_and_a_sentence(task: str) -> None:
    for name, setting in settings_of(config_class(task)).items():
        assert setting.value_type in (int, float, str, bool)
        assert (setting.bounds is not None) == (setting.value_type in (int, float)), name
        assert setting.doc.endswith("."), name


@pytest.mark.parametrize("task", TASKS)
def test_what_a_setting_needs_is_a_value_of_another_setting(task: str) -> None:
    declared = settings_of(config_class(task))
    for setting in declared.values():
        if setting.only_with is not None:
            other = declared[setting.only_with.name]
            for value in setting.only_with.values:
                assert type(value) is other.value_type
                assert other.problems(value) == []


def test_settings_that_others_make_idle_are_told() -> None:
    config = resolve(SegConfig, "tiny", ["finetune=head", "rank=4", "prompt_tokens=3"])
    assert config.without_effect({"rank", "prompt_tokens", "epochs"}) == [
        "rank has no effect with finetune=head, only with lora",
        "prompt_tokens has no effect with finetune=head, only with prompt",
    ]
    assert resolve(SegConfig, "tiny", ["finetune=lora", "rank=4"]).without_effect({"rank"}) == []
    rules = resolve(CvqaConfig, "tiny", ["rules=false", "lang=es"])
    assert rules.without_effect({"lang"}) == ["lang has no effect with rules=false, only with true"]


@pytest.mark.parametrize(
    ("settings", "is_read"),
    [
        (("modality=text", "finetune_encoders=images"), False),
        (("modality=image", "finetune_encoders=texts"), False),
        (("modality=image", "finetune_encoders=texts", "head=options"), True),
        (("modality=concepts", "finetune_encoders=images", "concepts=best.pt"), False),
        (("finetune_encoders=texts",), True),
    ],
)
def test_tuning_encoders_that_are_not_read_is_told(settings: tuple[str, ...], is_read: bool) -> None:
    config = resolve(CvqaConfig, "tiny", ["finetune=bitfit", *settings])
    told = config.without_effect({text.partition("=")[0] for text in settings})
    assert any("tunes nothing" in line for line in told) != is_read


@pytest.mark.parametrize("task", TASKS)
def test_configs_are_frozen(task: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve(config_class(task), "tiny").epochs = 3  # type: ignore[misc]


def test_settings_from_python_name_themselves_in_errors() -> None:
    """Not the preset that they are laid over."""
    with pytest.raises(ConfigError) as caught:
        resolve(SegConfig, "tiny", {"epochs": "two", "bach_size": 4, 3: 1})  # type: ignore[dict-item]
    assert [line.split(";")[0] for line in caught.value.problems] == [
        "settings: epochs: got text, expected a whole number",
        "settings: bach_size: no such setting for task 'seg'",
        "settings: 3: no such setting for task 'seg'",
    ]
    with pytest.raises(ConfigError, match=r"^settings: from an earlier version: clip is now grad_clip_norm"):
        resolve(SegConfig, "tiny", {"clip": 1.0})
    assert resolve(SegConfig, "tiny", "epochs=3").epochs == 3  # one text is one setting


def test_a_preset_of_ones_own_extends_another_and_is_recorded_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "mine.toml").write_text('extends = "tiny"\nabout = "ours"\n[seg]\nepochs = 7\n')
    (tmp_path / "later.toml").write_text('extends = "mine"\n[shared]\nseed = 3\n')
    mine, later = resolve(SegConfig, "mine"), resolve(SegConfig, str(tmp_path / "later.toml"))
    assert (mine.preset, mine.epochs, mine.image_encoder) == ("mine", 7, "tiny")
    assert (later.preset, later.epochs, later.seed) == ("later.toml", 7, 3)
    assert lines("seg", "mime")[0].endswith("no such preset; did you mean mine?")
    (tmp_path / "presets" / "mine.toml").write_text('extends = "mine"\n')
    assert "do they extend each other?" in lines("seg", "mine")[0]
    # values of all settings, as in a record, need no preset: the file may be gone
    (tmp_path / "presets" / "mine.toml").unlink()
    values = {name: value for name, value in mine.as_dict().items() if name != "preset"}
    assert resolve(SegConfig, "mine", values) == mine


def test_set_wins_over_flags_over_the_config_file_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("\ufeff[shared]\nepochs = 3\nseed = 3\nviews = 3\n[seg]\nseed = 4\n", encoding="utf-8")
    found = resolve(SegConfig, "tiny", ("views=5",), file, seed=6)
    assert (found.epochs, found.seed, found.views, found.batch_size, found.preset) == (3, 6, 5, 8, "tiny")
    assert preset_files.base_of(file, "") == "small"
    file.write_text('extends = "quick"\n')
    assert (preset_files.base_of(file, ""), preset_files.base_of(file, "quick")) == ("quick", "quick")
    with pytest.raises(ConfigError, match="got quick, expected --preset tiny"):
        preset_files.base_of(file, "tiny")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"[seg]\n\nepoch = 3\n", "my.toml:3: epoch: no such setting for task 'seg'; did you mean epochs?"),
        (b"[shared]\nlr = 0\n", "my.toml:2: lr: got 0.0, expected at least 1e-09"),
        (b"[seg]\nloss = 'dice'\n", "my.toml:2: loss: got 'dice', expected one of bce, bce+dice"),
        (b"[seg]\nlr = [1]\n", "my.toml:2: lr: got a list, expected a number"),
        (b"[seg]\npreset = 'tiny'\n", "my.toml:2: no setting; write `extends = ...` above all sections"),
        (b"epochs = 3\n", "my.toml:1: epochs: before any section; settings belong below [shared] or a task's name"),
        (b"[segg]\n", "my.toml:1: no such section [segg]; did you mean seg?"),
        (b"extends = 3\n", "my.toml:1: extends: got a whole number, expected text in quotes"),
        (b"[seg\n", "my.toml: no TOML: "),
        ("[seg]\n".encode("utf-16"), "my.toml: got text that is not UTF-8, expected TOML in UTF-8"),
        (None, "--config my.toml: no such file; `magic config TASK > my.toml` writes one"),
    ],
)
def test_a_fault_in_a_config_file_is_one_line_with_its_place(
    content: bytes | None, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("my.toml").write_bytes(content)
    [found] = lines("seg", "tiny", (), "my.toml")
    assert found.startswith(line)


def test_what_is_no_config_file_says_what_may_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("presets").mkdir()
    Path("presets/mine.toml").write_bytes(b"[seg]\nlr = 0.1\n")
    for name in ("tiny", "mine"):
        assert lines("seg", "tiny", (), name) == (f"--config {name}: no such file; did you mean --preset {name}?",)
    got = "got a folder, expected a file of settings; give a file; `magic config TASK` shows how it looks"
    assert lines("seg", "tiny", (), "presets") == (f"--config presets: {got}",)


def test_sections_of_files_are_the_tasks() -> None:
    assert set(preset_files.SECTIONS) == {"shared", *NAMES}
