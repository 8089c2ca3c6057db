"""`magic prepare --list-sources`: the datasets that can be read, and what is expected of each."""

from dataclasses import dataclass
from textwrap import wrap

from magic_cli.data.sources import sources
from magic_cli.report.table import Table

_FIELDS = ("name", "title", "origin", "licence", "expected")

_DATASET, _LICENCE, _EXPECTED = 40, 24, 46  # characters of columns


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A dataset: its name for `--source`, and what its adapter says about it."""

    name: str
    title: str
    origin: str
    licence: str
    expected: str


@dataclass(frozen=True, slots=True)
class SourceList:
    """All datasets, in the order in which they are listed."""

    sources: tuple[SourceLine, ...]

    def to_json(self) -> dict[str, object]:
        """Return schemas/sources.schema.json without its header."""
        return {"sources": [{field: getattr(line, field) for field in _FIELDS} for line in self.sources]}

    def lines(self) -> list[str]:
        """Return an aligned table as plain text; the last line names the next command."""
        rows = tuple(
            (
                line.name,
                f"{_wrapped(line.title, _DATASET)}\n{_wrapped(line.origin, _DATASET)}",
                _wrapped(line.licence, _LICENCE),
                _wrapped(line.expected, _EXPECTED),
            )
            for line in self.sources
        )
        title = f"{len(self.sources)} kinds of datasets; --source NAME is needed only where two match"
        table = Table(title, ("name", "dataset", "licence", "expected"), rows, words=frozenset({1, 2, 3}))
        return [*table.plain(), "next: magic prepare --data FOLDER, or see examples/datasets.md"]


def list_sources() -> SourceList:
    """Return what `magic prepare` can read; reads no file of the user."""
    return SourceList(tuple(SourceLine(s.name, s.title, s.origin, s.licence, s.expected) for s in sources()))


def _wrapped(text: str, width: int) -> str:
    """Return a text in lines of at most `width` characters; a URL stays whole."""
    return "\n".join(wrap(text, width, break_long_words=False, break_on_hyphens=False))
