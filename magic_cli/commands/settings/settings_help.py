"""`magic train TASK --set help`: every setting of a task with its default, its values and its meaning."""

from dataclasses import dataclass
from textwrap import wrap

from magic_cli.config import Config, resolve, settings_of
from magic_cli.report.table import Table
from magic_cli.setting import Range, Setting, SettingValue

WORD = "help"

_TYPE_NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text"}

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}

_VALUES_WIDTH, _DOC_WIDTH = 32, 56  # characters


@dataclass(frozen=True)
class SettingsHelp:
    """The settings of a task, in the order of their fields, with the values that a preset gives them."""

    task: str
    preset: str
    settings: tuple[tuple[Setting, SettingValue], ...]

    def to_json(self) -> dict[str, object]:
        """Return schemas/settings.schema.json without its header."""
        rows = [_as_json(setting) | {"default": default} for setting, default in self.settings]
        return {"task": self.task, "preset": self.preset, "settings": rows}

    def lines(self) -> list[str]:
        """Return an aligned table as plain text; the last line says how a setting is changed."""
        rows = tuple(
            (
                setting.name,
                str(default).lower() if setting.value_type is bool else str(default),
                "\n".join(wrap(allowed(setting), _VALUES_WIDTH)),
                "\n".join(wrap(setting.doc, _DOC_WIDTH)),
            )
            for setting, default in self.settings
        )
        title = f"settings of task {self.task}; defaults of preset {self.preset}"
        table = Table(title, ("setting", "default", "values", "meaning"), rows, words=frozenset({1, 2, 3}))
        epochs = next(default for setting, default in self.settings if setting.name == "epochs")
        line = f"magic train {self.task} --preset {self.preset} --set epochs={epochs}"
        change = f"change any of them with --set NAME=VALUE, or in a file: magic config {self.task} > my.toml"
        return [*table.plain(), f"{change}; next: {line}"]


def settings_help(config_class: type[Config], preset: str) -> SettingsHelp:
    """Describe the settings of a task.

    Raises:
        ConfigError: no such preset.
    """
    config = resolve(config_class, preset)
    settings = [setting for name, setting in settings_of(config_class).items() if name != "preset"]
    return SettingsHelp(config_class.task, preset, tuple((s, getattr(config, s.name)) for s in settings))


def allowed(setting: Setting) -> str:
    """Return which values a setting takes, in words."""
    if setting.choices:
        return " | ".join(setting.choices)
    name = _TYPE_NAMES[setting.value_type]
    return name if setting.bounds is None else f"{name} in {setting.bounds}"


def _as_json(setting: Setting) -> dict[str, object]:
    """Return a setting as JSON values; types and bounds use JSON Schema keywords."""
    bounds = {} if setting.bounds is None else _bounds(setting.bounds)
    choices = {"enum": list(setting.choices)} if setting.choices else {}
    return {
        "name": setting.name,
        "type": _JSON_TYPES[setting.value_type],
        "description": setting.doc,
        **bounds,
        **choices,
    }


def _bounds(bounds: Range) -> dict[str, float]:
    low = "exclusiveMinimum" if bounds.open_low else "minimum"
    high = "exclusiveMaximum" if bounds.open_high else "maximum"
    return {low: bounds.low, high: bounds.high}
