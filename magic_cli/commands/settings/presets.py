"""`magic config --list`: the presets, shipped and one's own, with a line each; and which settings of a run differ."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from magic_cli import preset_files
from magic_cli.config import Config, resolve
from magic_cli.errors import ConfigError
from magic_cli.io.run_record import VerbResult


@dataclass(frozen=True)
class PresetLine:
    """A preset.

    Attributes:
        name: what `--preset` takes.
        own: whether it is the user's own.
        extends: the preset that it builds on; "" for none.
        about, needs, cost: as the file says; "" where it does not.
        fault: why it cannot be used; "" for nothing.
    """

    name: str
    own: bool
    extends: str = ""
    about: str = ""
    needs: str = ""
    cost: str = ""
    fault: str = ""


@dataclass(frozen=True)
class PresetList(VerbResult):
    """The presets that `--preset` takes here."""

    presets: tuple[PresetLine, ...]

    def to_json(self) -> dict[str, object]:
        """Return schemas/presets.schema.json without its header."""
        return {"presets": [asdict(preset) for preset in self.presets]}

    def lines(self) -> list[str]:
        """Return a few lines for each preset."""
        lines = []
        for preset in self.presets:
            own = f" (yours{f', extends {preset.extends}' if preset.extends else ''})" if preset.own else ""
            lines.append(f"{preset.name}{own}: {preset.fault or preset.about or 'no `about` in the file'}")
            lines += [f"  needs: {preset.needs}"] if preset.needs else []
            lines += [f"  cost: {preset.cost}"] if preset.cost else []
        if not any(preset.own for preset in self.presets):
            lines.append("none of your own: presets/NAME.toml here would be --preset NAME")
        return [*lines, "next: magic config seg > my.toml, then magic train seg --config my.toml"]


def list_presets() -> PresetList:
    """Return the shipped presets, and those in presets/ of the working folder."""
    shipped = [_line(name, own=False) for name in preset_files.shipped_presets()]
    return PresetList((*shipped, *(_line(name, own=True) for name in preset_files.own_presets())))


def _line(name: str, own: bool) -> PresetLine:
    try:
        file = preset_files.chain(name)[-1]
    except ConfigError as error:
        return PresetLine(name, own, fault=error.problems[0])
    return PresetLine(name, own, file.extends, file.about, file.needs, file.cost)


def changed_settings(config_class: type[Config], values: Mapping[str, object]) -> dict[str, object] | None:
    """Return the settings of a run that differ from its preset as it is here and now, by name.

    Args:
        config_class: the task's config class.
        values: the settings; those that this version does not know count as changed.

    Returns:
        None where the preset is not there any more, or not valid.
    """
    try:
        preset = resolve(config_class, str(values.get("preset", ""))).as_dict()
    except ConfigError:
        return None
    return {name: value for name, value in values.items() if name not in preset or preset[name] != value}
