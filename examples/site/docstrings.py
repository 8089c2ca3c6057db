"""Docstring entries for several parameters, "tp, fp, fn: pixels", as griffe can read them: as one name.

Griffe takes what follows the first space for a type; a no-break space is none to it, and looks the same.
"""

import re

from griffe import Extension, Object

ENTRY = re.compile(r"^( +)(\w+(?:, \w+)+):", re.MULTILINE)


class SharedEntries(Extension):
    """An extension of griffe, named in mkdocs.yml."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        """Change the docstring of anything that is documented."""
        if obj.docstring:
            obj.docstring.value = ENTRY.sub(_joined, obj.docstring.value)


def _joined(entry: re.Match[str]) -> str:
    return entry[0].replace(", ", ",\u00a0")
