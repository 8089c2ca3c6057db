"""How a setting is declared on its field: its type, bounds, meaning, and the setting that it needs.

A field is `name: Annotated[type, bounds, description] = default`. The bounds are a `Range` (every number has one) or
`Choices`; a `Literal` type needs neither. `OnlyWith` names the values of another setting that it has an effect with.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from magic_cli.errors import ConfigError, kind_in_words

SettingValue = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number; each is included unless it is open."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        """Return whether a number is in the range; NaN never is."""
        above = self.low < value if self.open_low else self.low <= value
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        """Return the range in interval notation, such as [0, 1)."""
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"{left}{self.low:.10g}, {self.high:.10g}{right}"

    def expected(self, value: float) -> str:
        """Return what a message gives as expected instead of `value`, which is out of range."""
        if self.open_low or self.open_high:
            return f"a number in {self}"
        return f"at most {self.high:.10g}" if value > self.high else f"at least {self.low:.10g}"


FRACTION = Range(0, 1, open_high=True)


@dataclass(frozen=True, slots=True)
class Choices:
    """The allowed values of a text, where they are computed; `Literal` lists fixed ones."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OnlyWith:
    """The values of another setting without which a setting has no effect."""

    name: str
    values: tuple[SettingValue, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as its field declares it; empty `choices` allow any value of the type within `bounds`."""

    name: str
    value_type: type[SettingValue]
    doc: str
    bounds: Range | None = None
    choices: tuple[str, ...] = ()
    only_with: OnlyWith | None = None

    @classmethod
    def of(cls, name: str, annotation: Any) -> "Setting":
        """Read an `Annotated` type."""
        declared, *marks = get_args(annotation)
        literal = get_origin(declared) is Literal
        choices = get_args(declared) if literal else ()
        bounds, doc, only_with = None, "", None
        for mark in marks:
            match mark:
                case Range():
                    bounds = mark
                case Choices():
                    choices = mark.values
                case OnlyWith():
                    only_with = mark
                case str():
                    doc = mark
        return cls(name, str if literal else declared, doc, bounds, choices, only_with)

    def problems(self, value: Any) -> list[str]:
        """Return one line per problem with a value of the setting's type; [] if it is allowed."""
        lines = []
        if self.choices and value not in self.choices:
            lines.append(f"{self.name}: got {value!r}, expected one of {', '.join(self.choices)}")
        if self.bounds is not None and value not in self.bounds:
            lines.append(f"{self.name}: got {str(value)[:40]}, expected {self.bounds.expected(value)}")
        if isinstance(value, str) and not value.isprintable():
            lines.append(f"{self.name}: got control characters, expected plain text")
        return lines

    def parse(self, text: str) -> SettingValue:
        """Convert the text of `--set NAME=TEXT` to the setting's type.

        Raises:
            ConfigError: it is not of that type.
        """
        if self.value_type is bool:
            if text.lower() in ("true", "yes", "1", "on"):
                return True
            if text.lower() in ("false", "no", "0", "off"):
                return False
            raise ConfigError(f"--set {self.name}={text[:60]}: expected {kind_in_words(bool)}")
        try:
            if self.value_type is not str and ("_" in text or not text.isascii()):
                raise ValueError  # Python reads 1_0 as ten
            return self.value_type(text)
        except ValueError:
            raise ConfigError(f"--set {self.name}={text[:60]}: expected {kind_in_words(self.value_type)}") from None
