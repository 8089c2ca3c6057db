"""Presets and config files: TOML with a section per task, each over another preset that it extends.

A preset is shipped (magic_cli/presets/NAME.toml), or one's own: NAME for presets/NAME.toml in the working folder, or a
path that ends in .toml. A file may say `extends = "small"`, on which preset it builds; [shared] counts for all tasks,
and `about`, `needs` and `cost` are shown by `magic config --list`.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from magic_cli.errors import ConfigError, did_you_mean, kind_in_words, problem
from magic_cli.io.files import StrPath
from magic_cli.io.regular_file import open_regular

PRESETS = Path(__file__).parent / "presets"

OWN = Path("presets")

BASE = "small"
"""The preset where none is named."""

SHARED = "shared"

SECTIONS = (SHARED, "seg", "cvqa", "pretrain", "retrieve")

_TOP = ("extends", "about", "needs", "cost")

_NAME = re.compile(r"[\w-]{1,60}")

_MOST = 1 << 20  # bytes of a file

_DEEPEST = 8  # presets that extend each other

_HEADING, _KEY = re.compile(r"\s*\[\s*[\"']?([\w-]+)[\"']?\s*\]"), re.compile(r"\s*[\"']?([\w-]+)[\"']?\s*=")


@dataclass(frozen=True)
class PresetFile:
    """A preset or a config file.

    Attributes:
        name: what messages call it: its path as it was given, the file's name of a shipped one.
        sections: values by name of a setting, by section; not yet checked.
        lines: the line, from 1, of each (section, name).
        extends: the preset that it builds on; "" for none.
        about, needs, cost: one line each for `magic config --list`.
    """

    name: str
    sections: Mapping[str, Mapping[str, object]]
    lines: Mapping[tuple[str, str], int] = field(default_factory=dict)
    extends: str = ""
    about: str = ""
    needs: str = ""
    cost: str = ""

    def values(self, task: str) -> dict[str, object]:
        """Return the values for a task: those of [shared], overridden by its own."""
        return {**self.sections.get(SHARED, {}), **self.sections.get(task, {})}

    def place(self, task: str, name: str) -> str:
        """Return where a value for a task is, FILE:LINE."""
        section = task if name in self.sections.get(task, {}) else SHARED
        line = self.lines.get((section, name))
        return self.name if line is None else f"{self.name}:{line}"


def shipped_presets() -> tuple[str, ...]:
    """Return the names of the shipped presets."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


def own_presets() -> tuple[str, ...]:
    """Return the names of the user's own presets, in presets/ of the working folder; a shipped name is shipped's."""
    found = sorted(path.stem for path in OWN.glob("*.toml") if _NAME.fullmatch(path.stem))
    return tuple(name for name in found if name not in shipped_presets())


def read_preset(preset: str) -> PresetFile:
    """Return a preset by its name, or by the path of its file.

    Raises:
        ConfigError: there is none (with the nearest name), or it is not valid.
    """
    if preset in shipped_presets():
        return _read(PRESETS / f"{preset}.toml", f"{preset}.toml")
    if preset.endswith(".toml"):
        if not Path(preset).is_file():
            raise ConfigError(f"--preset {preset}: no such preset file; `magic config TASK > {preset}` writes one")
        return _read(Path(preset), preset)
    own = own_presets()
    if preset in own:
        path = OWN / f"{preset}.toml"
        return _read(path, path.as_posix())
    raise ConfigError(f"--preset {preset}: no such preset; {did_you_mean(preset, (*shipped_presets(), *own))}")


def read_config_file(path: StrPath) -> PresetFile:
    """Return a file of settings (--config).

    Raises:
        ConfigError: there is none (with the preset that may be meant), or it is a folder, or not valid.
    """
    if Path(path).is_dir():
        remedy = "give a file; `magic config TASK` shows how it looks"
        raise ConfigError(problem(f"--config {path}", "a folder", "a file of settings", remedy))
    if not Path(path).exists() and str(path) in (*shipped_presets(), *own_presets()):
        raise ConfigError(f"--config {path}: no such file; did you mean --preset {path}?")
    if not Path(path).is_file():
        raise ConfigError(f"--config {path}: no such file; `magic config TASK > {path}` writes one")
    return _read(Path(path), str(path))


def base_of(config_file: StrPath | None, preset: str) -> str:
    """Return the preset that a run is based on: the one given, else the one that the config file extends, else BASE.

    Raises:
        ConfigError: both are given, and differ.
    """
    extends = "" if config_file is None else read_config_file(config_file).extends
    if preset and extends and preset != extends:
        expected, remedy = f"--preset {preset}, as typed", "leave out --preset, or change the file"
        raise ConfigError(problem(f"{config_file}: extends", extends, expected, remedy))
    return preset or extends or BASE


def chain(preset: str) -> list[PresetFile]:
    """Return a preset and those that it extends, the last of these first.

    Raises:
        ConfigError: one is not there or not valid, or they extend each other in a circle.
    """
    files, name = [read_preset(preset)], preset
    while name := files[0].extends:
        if len(files) == _DEEPEST:
            raise ConfigError(f"{files[0].name}: extends {name}, after {_DEEPEST} others; do they extend each other?")
        files.insert(0, read_preset(name))
    return files


def label_of(preset: str) -> str:
    """Return how a preset is recorded: its name, or the name of its file, without folders."""
    return Path(preset).name


def _read(path: Path, name: str) -> PresetFile:
    try:
        with open_regular(path) as file:
            data = file.read(_MOST + 1)
        if len(data) > _MOST:
            raise ConfigError(problem(name, "more than 1 MiB", "a file of settings", "is it the right file?"))
        text = data.decode("utf-8-sig")
        table = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read ({error.strerror}); check its permissions") from None
    except UnicodeDecodeError:
        raise ConfigError(problem(name, "text that is not UTF-8", "TOML in UTF-8", "save it as UTF-8")) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: no TOML: {error}; `magic config TASK` shows how it looks") from None
    sections = {key: value for key, value in table.items() if isinstance(value, dict)}
    lines = _lines(text)
    _check_top(table, name, lines)
    texts = {key: str(table.get(key, "")) for key in _TOP}
    return PresetFile(name, sections, lines, **texts)


def _check_top(table: Mapping[str, object], name: str, lines: Mapping[tuple[str, str], int]) -> None:
    """Raise ConfigError with a line per key of the file that is no section, and none of the texts about it."""
    faults = []
    for key, value in table.items():
        line = lines.get(("", key))
        where = name if line is None else f"{name}:{line}"
        if isinstance(value, dict) and key not in SECTIONS:
            faults.append(f"{where}: no such section [{key}]; {did_you_mean(key, SECTIONS)}")
        elif not isinstance(value, dict) and key not in _TOP:
            remedy = f"settings belong below [shared] or a task's name, such as [{SECTIONS[1]}]"
            faults.append(f"{where}: {key}: before any section; {remedy}")
        elif key in _TOP and not isinstance(value, str):
            faults.append(problem(f"{where}: {key}", kind_in_words(type(value)), "text in quotes", "put it in quotes"))
    if faults:
        raise ConfigError(faults)


def _lines(text: str) -> dict[tuple[str, str], int]:
    """Return the line of each key by (section, key); that of a section itself by ("", section)."""
    found: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if heading := _HEADING.match(line):
            section = heading[1]
            found.setdefault(("", section), number)
        elif key := _KEY.match(line):
            found.setdefault((section, key[1]), number)
    return found
