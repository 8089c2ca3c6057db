"""`magic config TASK`: all settings of a task as a file for `magic train --config`, each with its meaning and range."""

import json
from dataclasses import dataclass
from textwrap import wrap

from magic_cli import preset_files, tasks
from magic_cli.commands.settings.settings_help import SettingsHelp, allowed, settings_help
from magic_cli.io.run_record import VerbResult
from magic_cli.setting import SettingValue

_WIDTH = 100  # characters of a comment


@dataclass(frozen=True)
class ConfigFile(VerbResult):
    """The settings of a task with the values of a preset, as TOML."""

    settings: SettingsHelp

    def to_json(self) -> dict[str, object]:
        """Return schemas/settings.schema.json without its header."""
        return self.settings.to_json()

    def lines(self) -> list[str]:
        """Return the lines of the file."""
        task, preset = self.settings.task, self.settings.preset
        lines = [
            f"# Settings of task {task}, with the values of preset {preset}, for: magic train {task} --config FILE",
            "# What you leave out is as in the preset that it extends; options and --set override this file.",
            f"extends = {_toml(preset)}",
            "",
            f"[{task}]",
        ]
        for setting, value in self.settings.settings:
            lines += ["", *(f"# {line}" for line in wrap(setting.doc, _WIDTH))]
            lines += [f"# {line}" for line in wrap(f"{allowed(setting)}; {preset}: {_shown(value)}", _WIDTH)]
            lines.append(f"{setting.name} = {_toml(value)}")
        return lines


def config_file(task: str, preset: str = preset_files.BASE) -> ConfigFile:
    """Return the settings of a task as a file.

    Args:
        task: its name.
        preset: name of a preset, or path of one.

    Raises:
        ConfigError: no such task or preset.
    """
    return ConfigFile(settings_help(tasks.config_class(task), preset))


def _shown(value: SettingValue) -> str:
    return "empty" if value == "" else _toml(value).strip('"')


def _toml(value: SettingValue) -> str:
    """Return a value as TOML: texts in quotes, whose escapes are those of JSON; numbers as Python writes them."""
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
