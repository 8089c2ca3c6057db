"""Unimodal controls: what a task's models reach that read one input alone, and how to make those that are missing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from magic_cli.training.task import Task

_SETTING, _BOTH = "modality", "both"


@dataclass(frozen=True, slots=True)
class UnimodalControl:
    """A model of one input that a system which reads several should be better than.

    Attributes:
        task: its name.
        reads: the input, as "text".
        systems: those of the report that read this input alone, by what their run.json says.
    """

    task: str
    reads: str
    systems: tuple[str, ...]

    @property
    def command(self) -> str:
        """What trains the control."""
        return f"magic train {self.task} --{_SETTING} {self.reads} --out runs/{self.task}-{self.reads}"

    def to_json(self) -> dict[str, object]:
        """Return an item of `unimodal` of schemas/report.schema.json."""
        made: dict[str, object] = {"task": self.task, "reads": self.reads, "systems": list(self.systems)}
        return made if self.systems else {**made, "command": self.command}

    def lines(self) -> Iterator[str]:
        """Yield a line if the control is missing."""
        if not self.systems:
            yield f"no control that reads {self.reads} alone is among the systems; to make one: {self.command}"


def unimodal_controls(task: Task, settings_of: Mapping[str, Mapping[str, object]]) -> Iterator[UnimodalControl]:
    """Yield the controls of a task whose models can read one input alone, if a system is known to read several.

    Args:
        task: what was scored.
        settings_of: for each system, the settings that its run.json records; {} where it has none.
    """
    if _SETTING not in {field.name for field in fields(task.config_class)}:
        return
    read = {system: str(settings.get(_SETTING, "")) for system, settings in settings_of.items()}
    if _BOTH not in read.values():
        return
    for one in ("text", "image"):
        yield UnimodalControl(task.name, one, tuple(system for system, what in read.items() if what == one))
