"""What every command of `magic` has in common: help in groups, guesses at misspelt verbs, paths that are not empty."""

import functools
import re
from pathlib import Path
from typing import Any

from typer import BadParameter
from typer.core import TyperCommand, TyperGroup

from magic_cli.cli import usage_errors
from magic_cli.cli.process import require_loadable_torch
from magic_cli.errors import DataError, printable

_LOAD_TORCH = {"train", "predict", "rerun", "demo", "export"}

# Words that users of other tools type first, and what they mean here.
SYNONYMS = {
    "evaluate": "score",
    "eval": "score",
    "test": "score",
    "validate": "package --check-only",
    "check": "package --check-only",
    "lint": "package --check-only",
    "submit": "package",
    "zip": "package",
    "fit": "train",
    "finetune": "train",
    "infer": "predict",
    "inference": "predict",
    "segment": "predict seg",
    "preprocess": "prepare",
    "import": "prepare",
    "convert": "prepare",
    "retrieve": "search",
    "find": "search",
    "query": "search",
    "repeat": "rerun",
    "reproduce": "rerun",
    "checks": "doctor",
    "list": "runs",
    "ls": "runs",
    "info": "show",
    "card": "show --card",
    "presets": "config --list",
    "settings": "config",
    "env": "doctor",
}

_SAID_OTHERWISE = {"help": "--help", "version": "--version", "-V": "--version"}

_NUMBER = "N"

# What stands for the types that Typer names after Python's.
_METAVARS = {
    "list[Path]": "PATH",
    "path": "PATH",
    "list[str]": "TEXT",
    "str": "TEXT",
    "int": _NUMBER,
    "int range": _NUMBER,
    "float": _NUMBER,
    "float range": _NUMBER,
    "list[float]": _NUMBER,
}

# Groups of options in the help of all commands, by parameter; what concerns one task alone is told by its help.
_GROUPS = {
    "Data": "ckpt data data_weight split folds limit source list_sources mapping join merge strict images text",
    "Splits": "valid test split_by split_seed duplicates shards",
    "Texts": "prompt responses knowledge ontology llm_cache overflow query_from query_attributes label_captions",
    "Learning": "task sort preset config list_all settings init finetune seed deterministic",
    "Machine": "device precision weights cache_dir no_cache workers",
    "Output": "help out onnx hub_folder compare card export resume overwrite dry_run as_json run html csv trec log",
}

_GROUP_OF = {name: group for group, names in _GROUPS.items() for name in names.split()}

_ORDER = ("Arguments", "Data", "Splits", "Texts", "Learning", "Options", "Only", "Machine", "Output")

_ONE_TASK = re.compile(r"(seg|cvqa|pretrain|retrieve)[,:] ")

_FIRST_COLUMN = 26  # 80 columns leave 50 for the help


class MagicCommand(TyperCommand):
    """A command whose help has its options in groups, in two columns that fit a terminal of 80."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the command line; an option that takes one path may stand there once."""
        if not ctx.resilient_parsing:
            usage_errors.check(self, ctx, args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options of each group."""
        _write_options(self, ctx, formatter)


class MagicGroup(TyperGroup):
    """All commands; they need an existing working folder, as relative paths start from it."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command whose values are checked and, where they are invalid, named."""
        command: Any = super().get_command(ctx, cmd_name)
        for parameter in () if command is None else command.params:
            setattr(parameter, "process_value", functools.partial(usage_errors.process_value, parameter))  # noqa: B010
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names.

        Raises:
            typer.BadParameter: the word is another tool's for one of these commands, which is named.
        """
        known = SYNONYMS.get(args[0]) if args and self.get_command(ctx, args[0]) is None else None
        if known and ctx.parent is None:
            raise BadParameter(f"no command {printable(args[0])!r}; did you mean `magic {known}`?", ctx=ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the options before the verb; `magic help [VERB]`, `magic version` and `magic -V` do what they say."""
        if ctx.parent is None and args[:1] and args[0] in _SAID_OTHERWISE:
            args = [*(args[1:] if args[0] == "help" else ()), _SAID_OTHERWISE[args[0]]]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of each group with the first sentence of their help, then the options."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                first = " ".join((command.help or "").strip().split("\n\n")[0].split())
                rows.setdefault(panel if isinstance(panel, str) else "Commands", []).append((name, first))
        _write_sections(formatter, rows)
        _write_options(self, ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises:
            DataError: the working folder was removed. ConfigError: torch is needed and cannot be loaded.
        """
        words = [*ctx._protected_args, *ctx.args]
        if _LOAD_TORCH & set(words[:1]) or {"doctor", "--deep"} <= set(words):
            require_loadable_torch()
        try:
            Path.cwd()
        except OSError as error:
            line = f"the working folder cannot be used ({error.strerror}); cd to a folder that exists"
            raise DataError(line) from None
        return super().invoke(ctx)


def _write_options(command: Any, ctx: Any, formatter: Any) -> None:
    rows: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            group = _group(parameter)
            help_text = _ONE_TASK.sub("", record[1]) if group.startswith("Only") else record[1]
            rows.setdefault(group, []).append((_plain(record[0]), help_text))
    _write_sections(
        formatter, {name: rows[name] for name in sorted(rows, key=lambda name: _ORDER.index(name.split()[0]))}
    )


def _group(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    task = _ONE_TASK.match(parameter.help or "")
    return f"Only {task[1]}" if task else _GROUP_OF.get(parameter.name, "Options")


def _write_sections(formatter: Any, rows: dict[str, list[tuple[str, str]]]) -> None:
    for name, lines in rows.items():
        with formatter.section(name):
            formatter.write_dl(lines, col_max=_FIRST_COLUMN)


def _plain(option: str) -> str:
    """Return an option with the word that stands for its value, as `--out PATH`, or its choices, as `a|b`."""
    return re.sub(r" <([^>]*)>", lambda kind: f" {_METAVARS.get(kind[1], kind[1])}", option)
