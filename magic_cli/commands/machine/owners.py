"""Who owns the module `magic_cli` and the command `magic`: PyPI's `magic-cli`, a stranger's package, has both names."""

import re
import shutil
import sysconfig
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from magic_cli.commands.machine.row import MISSING, NOTE, Row

OURS, MODULE, COMMAND = "mediqa-magic", "magic_cli", "magic"

_ENTRY = b"magic_cli.__main__"  # what our script imports
_READ = 1 << 16  # bytes of a script


def rows() -> Iterable[Row]:
    """Yield a row for the module and one for the command."""
    yield _module()
    yield _command()


def _module() -> Row:
    name = f"module {MODULE}"
    others = _others(dist.name for dist in metadata.distributions() if _has_module(dist))
    if others:
        return Row("versions", name, f"{' and '.join(others)} has files in it, too", MISSING, _remedy(others))
    return Row("versions", name, f"of {OURS}, in {Path(__file__).parents[2]}")


def _command() -> Row:
    name = f"command {COMMAND}"
    entries = metadata.entry_points(group="console_scripts", name=COMMAND)
    others = _others(entry.dist.name for entry in entries if entry.dist is not None)
    if others:
        return Row("versions", name, f"{' and '.join(others)} installs one, too", MISSING, _remedy(others))
    found, ours = shutil.which(COMMAND), Path(sysconfig.get_path("scripts"))
    if found is None:
        return Row(
            "versions", name, "not on PATH", NOTE, f"python -m {MODULE} does the same; or activate {ours.parent}"
        )
    first = f"python -m {MODULE} is this one; or put {ours} first in PATH"
    if not _is_ours(Path(found)):
        return Row("versions", name, f"{found} is another program", NOTE, first)
    if Path(found).parent.resolve() != ours.resolve():
        return Row("versions", name, f"{found} is that of another environment", NOTE, first)
    return Row("versions", name, found)


def _has_module(distribution: metadata.Distribution) -> bool:
    """Return whether a distribution has files in the module; `packages_distributions` takes five times as long."""
    listed = distribution.read_text("RECORD") or distribution.read_text("top_level.txt") or ""
    return any(line.strip() == MODULE or line.startswith(f"{MODULE}/") for line in listed.splitlines())


def _others(names: Iterable[str]) -> list[str]:
    """Return the distributions that are not ours, each once, by their names in PyPI's form."""
    return sorted({re.sub(r"[-_.]+", "-", name).lower() for name in names} - {OURS})


def _remedy(others: list[str]) -> str:
    again = "pip install --force-reinstall --no-deps ."
    return f"run: pip uninstall {' '.join(others)}; then, in the clone of this project: {again}"


def _is_ours(script: Path) -> bool:
    """Return whether a script starts this program; one that cannot be read, or is compiled, gets the benefit."""
    try:
        with script.open("rb") as file:
            text = file.read(_READ)
    except OSError:
        return True
    return not text.startswith(b"#!") or _ENTRY in text
