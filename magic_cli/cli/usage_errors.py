"""Errors of the command line in plain words, each with its remedy where one is known."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from typer import BadParameter

_OPTION_OF = {".pt": "ckpt", ".onnx": "onnx", ".zip": "check_only", ".toml": "config"}

_BOUNDS = {
    "less than or equal to": "at most",
    "greater than or equal to": "at least",
    "less than": "below",
    "greater than": "above",
}

_PHRASES = (
    (r"Invalid value for '([^']+)': '(.*)' is not one of (.*)", r"\1: got '\2', expected one of \3"),
    (r"Invalid value for '([^']+)': (.*)", r"\1: \2"),
    (r"Option '([^']+)' requires an argument", r"\1: got nothing, expected a value after it"),
    (r"Option '([^']+)' does not take a value", r"\1: got a value, expected none; write \1 alone"),
)


def in_words(line: str, error: Exception) -> str:
    """Return the parser's line about an invalid command line in plain words."""
    context = getattr(error, "ctx", None)
    extra = re.fullmatch(r"Got unexpected extra argument\(s\) \((.*)\)", line)
    if extra is not None:
        word = extra[1] if _exists(Path(extra[1])) else extra[1].split(" ")[0]
        return stray_word(word, context)
    for pattern, words in _PHRASES:
        if re.fullmatch(pattern, line):
            return re.sub(pattern, words, line)
    return _as_setting(line, getattr(context, "command_path", "magic"))


def _as_setting(line: str, path: str) -> str:
    """Return a line about an option that `train` does not have but whose name is a setting's with the way to set it."""
    from magic_cli import tasks
    from magic_cli.config import settings_of

    option = re.match(r"No such option: --([a-z][a-z0-9_-]*)", line)
    name = option[1].replace("-", "_") if option else ""
    if not path.endswith(" train") or not any(name in settings_of(tasks.config_class(task)) for task in tasks.NAMES):
        return line
    return f"no option --{name.replace('_', '-')}: it is a setting, --set {name}=VALUE"


def stray_word(word: str, context: Any) -> str:
    """Return the line about a word that belongs to no option, with the option that takes such a word, if any."""
    if not word:
        return "got an empty word; is a variable unset?"
    options = {each.name: each for each in _options(getattr(context, "command", None))}
    name, remedy = _remedy(word, options)
    option = f"--{name.replace('_', '-')}"
    if remedy == f"write {option} before it" and name in given(context) and not options[name].multiple:
        remedy = f"{option} takes one; put a path with blanks in quotation marks"
    return f"got {word!r}, which belongs to no option" + (f"; {remedy}" if remedy else "")


def given(context: Any) -> set[str]:
    """Return the names of the parameters that stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def _options(command: Any) -> list[Any]:
    return [each for each in getattr(command, "params", ()) if each.param_type_name == "option"]


def takes_paths(parameter: Any) -> bool:
    """Return whether the values of a parameter are paths, or may be, as that of --index."""
    return parameter.type_descriptor.annotation in (Path, list[Path]) or parameter.opts[0] == "--index"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text, too long for a path or with a character that no path has
        return False


def _remedy(word: str, options: Collection[str]) -> tuple[str, str]:
    """Return the name of the option that takes a word, and what to do; two empty texts if there is none."""
    from magic_cli.data.names import PHOTO_SUFFIXES
    from magic_cli.preset_files import shipped_presets

    path, suffix = Path(word), Path(word).suffix.lower()
    exists = _exists(path)
    is_setting = "=" in word or word.replace(".", "").isdigit()
    by_suffix = _OPTION_OF.get(suffix, "")
    remedies = (
        ("attr", "=" in word, "write --attr before each NAME=VALUE"),
        ("settings", is_setting, "write --set before each NAME=VALUE, without blanks"),
        ("preset", word in shipped_presets(), "write --preset before it"),
        ("images", suffix in PHOTO_SUFFIXES, "write --images before each photo, or before their folder"),
        ("image", suffix in PHOTO_SUFFIXES, "write --image before it"),
        (by_suffix, bool(by_suffix), f"write --{by_suffix.replace('_', '-')} before it"),
        ("resume", _exists(path / "best.pt"), "write --out before the folder of a run"),
        ("check_only", exists, "write --seg or --cvqa before the folder of predictions"),
        (
            "vote",
            exists,
            "write --images before a folder of photos, --data before a dataset, --vote before answers to merge",
        ),
        ("index", exists, "write --index before it"),
        ("data", exists or "/" in word or "\\" in word, "write --data before it"),
        ("text", not suffix, "write --text before words, in quotation marks"),
    )
    return next(((name, remedy) for name, fits, remedy in remedies if fits and name in options), ("", ""))


def check(command: Any, context: Any, arguments: Sequence[str]) -> None:
    """Refuse what the parser takes without a word: two files or folders for one, of which it keeps the last.

    Raises:
        typer.BadParameter: an option that takes one path is given twice, or one is written with a single dash.
    """
    options = _options(command)
    names = {name for option in options for name in option.opts}
    try:
        _, _, order = command.make_parser(context).parse_args(args=list(arguments))
    except Exception as error:
        dashed = [word for word in arguments if re.fullmatch(r"-[a-z][a-z-]+", word) and f"-{word}" in names]
        if dashed and str(error).startswith("No such option: -"):
            raise BadParameter(f"got {dashed[0]}, expected -{dashed[0]}, with two dashes", ctx=context) from None
        if getattr(error, "ctx", context) is None:  # then it would name no command
            error.ctx = context  # type: ignore[attr-defined]
        raise
    counts = Counter(each.name for each in order)
    for option in options:
        if counts[option.name] > 1 and takes_paths(option) and not option.multiple:
            raise BadParameter(f"{option.opts[0]}: given {counts[option.name]} times, expected once", ctx=context)


def process_value(parameter: Any, context: Any, value: Any) -> Any:
    """Return the value of a parameter.

    Raises:
        typer.BadParameter: it is invalid; or a path is empty, as `--data "$UNSET"`, which would mean the working
            folder, or the name of an option, as in `--seg --cvqa DIR`.
    """
    is_path, values = takes_paths(parameter), value if isinstance(value, list | tuple) else (value,)
    if is_path and "" in values:
        line = "got an empty path, expected a file or folder; is a variable unset?"
        raise BadParameter(line, ctx=context, param=parameter)
    for each in values:
        if is_path and parameter.param_type_name == "option" and isinstance(each, str) and re.match(r"--[a-z]", each):
            line = f"got {each}, the name of an option, expected a path; write ./{each} if a file has this name"
            raise BadParameter(line, ctx=context, param=parameter)
    try:
        return type(parameter).process_value(parameter, context, value)
    except BadParameter as error:
        error.message = _expected(error.message, value)
        raise


def _expected(message: str, value: Any) -> str:
    """Return what is expected instead of a value that is no number, or out of range."""
    kind = re.match(r"Input should be a valid (number|integer)", message)
    if kind:
        expected = "a number, such as 0.5" if kind[1] == "number" else "a whole number"
        return f"got {str(value)[:40]!r}, expected {expected}"
    bound = re.fullmatch(r"Input should be ((?:less|greater) than(?: or equal to)?) (\S+)", message)
    return f"got {str(value)[:40]}, expected {_BOUNDS[bound[1]]} {bound[2]}" if bound else message
