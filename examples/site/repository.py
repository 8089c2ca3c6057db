"""What the site takes from the repository: documents where they lie, so that links hold, and pages made from code.

A hook of MkDocs (mkdocs.yml beside it). README.md becomes the first page, examples/scoring.md examples/scoring.html.
"""

from collections.abc import Iterator
from pathlib import Path

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click
from typer.core import TyperCommand, TyperGroup

import magic_cli
from magic_cli import tasks
from magic_cli.cli.app import app
from magic_cli.commands.settings.settings_help import settings_help
from magic_cli.config import Setting

PRESET = "small"

ROOT = Path(__file__).resolve().parents[2]

DOCUMENTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples/*.md")
LINKED = ("LICENSE", "CITATION.cff", "Dockerfile", "schemas/*.json", "examples/*.*")
"""Files that documents link to; they are copied as they are."""

SEARCH = {"CHANGELOG.md": {"exclude": True}, "examples/glossary.md": {"boost": 20}}

INTRODUCTIONS = {
    "functions": """
Every verb of the command line is a function of `magic_cli`. It takes paths and a dataclass of [options](options.md),
returns a dataclass of [results](results.md), and leaves `run.json` beside what it wrote.
[First steps from Python](../examples/notebook.md) shows them at work. What is wrong with a user's input is a
`magic_cli.MagicError`, whose message names the place, what was found, what was expected, and the remedy.
""",
    "options": """
What the [functions](functions.md) take: names of `magic_cli`, whose fields are the options of the
[commands](commands.md) with the same defaults. What `--set` changes is in [settings](settings.md).
""",
    "results": """
What the [functions](functions.md) return: names of `magic_cli`. `to_json()` is what `--json` prints, `lines()` what
the command prints for people.
""",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's documents, the files that they link to, and the pages of the command line."""
    for path in sorted({path for pattern in (*DOCUMENTS, *LINKED) for path in ROOT.glob(pattern)}):
        uri = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    made = {"commands": commands(), "settings": settings()} | {name: public(name) for name in INTRODUCTIONS}
    for name, text in made.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def public(kind: str) -> str:
    """Return a page with the documentation of public names, each from the module that defines it.

    Args:
        kind: a key of INTRODUCTIONS.
    """
    homes = magic_cli._PUBLIC  # asking for the names themselves would load torch
    entries = [f"::: magic_cli.{homes[name]}.{name}" for name in sorted(homes) if _kind(name) == kind]
    return "\n".join([f"# {kind.capitalize()}", "", INTRODUCTIONS[kind], "", *entries, ""])


def _kind(name: str) -> str:
    if name.islower():
        return "functions"
    return "options" if name.endswith("Options") else "results"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> None:  # noqa: ARG001
    """Let a search find what words mean before what was measured, and no old changes."""
    if page.file.src_uri in SEARCH:
        page.meta["search"] = SEARCH[page.file.src_uri]


def commands() -> str:
    """Return the help of every command as Markdown."""
    return "# Commands\n\n" + "\n".join(_help(typer.main.get_command(app), "magic"))


def _help(command: TyperCommand | TyperGroup, words: str, level: int = 1) -> Iterator[str]:
    """Yield the help of a command, or that of each command of a group; `words` are what calls it."""
    if isinstance(command, TyperGroup):
        yield f"{command.help}\n"
        for name, inner in command.commands.items():
            if isinstance(inner, TyperGroup):
                yield f"## `{words} {name}`\n"
            yield from _help(inner, f"{words} {name}", level + isinstance(inner, TyperGroup))
    else:
        context = typer.Context(command, info_name=words)
        yield get_docs_for_click(obj=command, ctx=context, indent=level, name=words)


def settings() -> str:
    """Return every setting of every task as Markdown tables."""
    parts = ["# Settings", "What `--set key=value` changes, by task."]
    for name in tasks.NAMES:
        described = settings_help(tasks.config_class(name), PRESET)
        rows = [
            (f"`{setting.name}`", f"`{value}`" if str(value) else "", _allowed(setting), setting.doc)
            for setting, value in described.settings
        ]
        lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
        head = [f"| setting | preset {PRESET} | values | meaning |", "|---|---|---|---|"]
        parts += [f"## {name}", "\n".join([*head, *lines])]
    return "\n\n".join(parts)


def _allowed(setting: Setting) -> str:
    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    return setting.value_type.__name__ + (f" in {setting.bounds}" if setting.bounds else "")
