"""The shape of the code: layers, sizes, short commands, no torch behind light commands. No exceptions are listed."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import magic_cli
from magic_cli.data.masks import write_mask
from magic_cli.data.prepared import open_prepared

PACKAGE = Path(magic_cli.__file__).parent
# Lowest first. A module imports only from lower layers, or from its own group (one {...} of names).
LAYERS: tuple[tuple[frozenset[str], ...], ...] = (
    (
        frozenset({"__init__"}),
        frozenset({"errors"}),
        frozenset({"interrupt"}),
        frozenset({"lock"}),
        frozenset({"shape"}),
    ),
    (frozenset({"files"}), frozenset({"records"})),
    (frozenset({"schema"}),),
    (frozenset({"questions"}), frozenset({"progress"})),
    (frozenset({"config"}), frozenset({"data"}), frozenset({"model"}), frozenset({"metrics"})),
    (
        frozenset(
            {
                "engine",
                "averaging",
                "batches",
                "table",
                "trainer",
                "state",
                "checkpoint",
                "draft",
                "submission",
                "linter",
                "findings",
                "sheet",
                "package",
                "report",
                "outcome",
                "settings_help",
                "leaderboard",
                "page",
                "report_page",
                "prepare_page",
                "plots",
                "overlays",
                "prepare",
                "likeness",
                "machine",
                "provenance",
            }
        ),
    ),
    (frozenset({"tasks"}),),
    (frozenset({"runs", "choosing", "folds", "pooled", "review", "referee", "publish"}),),
    (frozenset({"options"}), frozenset({"ending"})),
    (frozenset({"cli", "demo", "doctor", "rerun"}),),
    (frozenset({"__main__"}),),
)
HEAVY = frozenset(
    {"matplotlib", "torch", "torchvision", "transformers", "timm", "accelerate", "pandas", "scipy", "sklearn"}
)
LIGHT = (
    *("errors", "files", "records", "schema", "questions", "progress", "config", "data", "metrics"),
    *("model.weights", "model.storage"),
    *(
        "submission",
        "report",
        "outcome",
        "settings_help",
        "referee",
        "leaderboard",
        "page",
        "report_page",
        "prepare",
        "tasks",
        "tasks.seg",
        "tasks.cvqa",
        "tasks.cvqa_vote",
        "cli",
        "demo",
        "doctor",
        "likeness",
        "machine",
        "provenance",
        "rerun",
    ),
)
MOST_LINES, MOST_COMMAND_LINES = 300, 25


def modules(root: Path) -> dict[str, Path]:
    """Return every module of the package at `root` by its dotted name without the package ("" is the package)."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, name: str, at_import: bool) -> Iterator[str]:
    """Yield the full dotted names that module `name` imports, relative ones resolved."""
    here = ["magic_cli", *name.split(".")] if name else ["magic_cli"]
    for node in walk(parsed(path), at_import):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            drop = node.level - (1 if path.name == "__init__.py" else 0)
            base = [*here[: len(here) - drop]] if node.level else []
            base += (node.module or "").split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module" and node.args:
            first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value.rstrip(".")


def walk(node: ast.AST, at_import: bool) -> Iterator[ast.AST]:
    """Yield all nodes; with `at_import` only those that run when the module is imported."""
    yield node
    if at_import and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    if at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    for child in ast.iter_child_nodes(node):
        yield from walk(child, at_import)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def own_module(target: str, known: dict[str, Path]) -> str | None:
    """Return the module of ours that importing `target` loads; None for other packages."""
    if target.split(".")[0] != "magic_cli":
        return None
    parts = target.split(".")[1:]
    while parts and ".".join(parts) not in known:
        parts.pop()
    return ".".join(parts)


def place(name: str) -> tuple[int, frozenset[str]] | None:
    head = name.split(".")[0] or "__init__"
    for rank, layer in enumerate(LAYERS):
        for group in layer:
            if head in group:
                return rank, group
    return None


def layer_faults(root: Path) -> list[str]:
    known, faults = modules(root), []
    for name, path in known.items():
        here = place(name)
        if here is None:
            faults.append(f"{name}: not in the table of layers")
            continue
        for target in imports(path, name, at_import=False):
            other = own_module(target, known)
            there = place(other) if other is not None else None
            if there and there[0] >= here[0] and there[1] != here[1]:
                faults.append(f"{name} -> {other}")
    return faults


def size_faults(root: Path) -> list[str]:
    counts = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules(root).items()}
    return [f"{name}: {count} lines" for name, count in counts.items() if count > MOST_LINES]


def name_faults(root: Path) -> list[str]:
    banned = {"utils", "util", "common", "helpers", "misc"}
    return [name for name in modules(root) if banned & set(name.split("."))]


def command_faults(path: Path) -> list[str]:
    """Return the commands and callbacks whose body, without docstring and signature, is too long."""
    faults = []
    for node in parsed(path).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        calls = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
        if not any(isinstance(c, ast.Attribute) and c.attr in ("command", "callback") for c in calls):
            continue
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
        if lines > MOST_COMMAND_LINES:
            faults.append(f"{node.name}: {lines} lines")
    return faults


def commands(path: Path) -> int:
    return sum(isinstance(n, ast.FunctionDef) and "command" in ast.dump(n) for n in parsed(path).body)


def loaded(root: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield (module of ours, heavy package) for all that importing `name` loads before anything is called."""
    known = modules(root)
    todo, seen = [name], set()
    while todo:
        current = todo.pop()
        if current in seen or current not in known:
            continue
        seen.add(current)
        todo += [".".join(current.split(".")[:i]) for i in range(current.count(".") + 1)]  # packages above it
        for target in imports(known[current], current, at_import=True):
            if target.split(".")[0] in HEAVY:
                yield current, target.split(".")[0]
            other = own_module(target, known)
            todo += [other] if other is not None else []


def weight_faults(root: Path) -> list[str]:
    light = [m for m in modules(root) if m in LIGHT or m.split(".")[0] in ("data", "metrics")]
    return [f"{name} loads {package} through {via}" for name in light for via, package in loaded(root, name)]


def plant(root: Path, **files: str) -> Path:
    """Write a small package: keys are module names with __ for a dot."""
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py" if name != "init" else "__init__.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for folder in [root, *(p for p in root.rglob("*") if p.is_dir())]:
        (folder / "__init__.py").touch()
    return root


def test_layers() -> None:
    assert layer_faults(PACKAGE) == []


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"data__a": "from magic_cli.tasks import seg", "tasks__seg": ""}, "data.a -> tasks.seg"),
        ({"data__a": "import magic_cli.model.b", "model__b": ""}, "data.a -> model.b"),
        ({"metrics__a": "from ..data import b", "data__b": ""}, "metrics.a -> data.b"),
        ({"model__a": "from magic_cli.metrics.b import f", "metrics__b": "f = 1"}, "model.a -> metrics.b"),
        ({"config": "def f():\n    from magic_cli import engine", "engine": ""}, "config -> engine"),
        ({"files": "from .schema import load", "schema": "load = 1"}, "files -> schema"),
        ({"records": "import magic_cli.files", "files": ""}, "records -> files"),
        (
            {"report": "import importlib\nimportlib.import_module(f'magic_cli.tasks.{1}')", "tasks__a": ""},
            "report -> tasks",
        ),
        ({"newcomer": ""}, "newcomer: not in the table of layers"),
    ],
)
def test_layers_can_fail(tmp_path: Path, files: dict[str, str], fault: str) -> None:
    assert layer_faults(plant(tmp_path, **files)) == [fault]


def test_layers_allow_what_is_lower_or_beside(tmp_path: Path) -> None:
    tree = plant(tmp_path, tasks__a="from magic_cli import engine", engine="from magic_cli.data.b import c", data__b="")
    assert layer_faults(plant(tree, data__c="from magic_cli.data import b\nimport numpy", report="import os")) == []


def test_sizes(tmp_path: Path) -> None:
    assert size_faults(PACKAGE) == []
    assert size_faults(plant(tmp_path, report="x = 1\n" * 301, files="x = 1\n" * 300)) == ["report: 301 lines"]


def test_no_drawer_for_everything(tmp_path: Path) -> None:
    assert name_faults(PACKAGE) == []
    assert name_faults(plant(tmp_path, data__utils="", common="")) == ["common", "data.utils"]


def test_commands_are_short(tmp_path: Path) -> None:
    assert commands(PACKAGE / "cli.py") >= 7
    assert command_faults(PACKAGE / "cli.py") == []
    signature = "@app.command()\ndef long(\n    a: int,\n    b: int,\n) -> None:\n"
    docstring = '    """One.\n\n    Two.\n    """\n'
    planted = tmp_path / "cli.py"
    planted.write_text(signature + docstring + "    a += 1\n" * 25)
    assert command_faults(planted) == []
    planted.write_text(signature + docstring + "    a += 1\n" * 26)
    assert command_faults(planted) == ["long: 26 lines"]
    planted.write_text("@app.callback\n" + "def f() -> None:\n" + "    a = 1\n" * 30)
    assert command_faults(planted) == ["f: 30 lines"]


def test_light_modules_load_nothing_heavy() -> None:
    assert weight_faults(PACKAGE) == []


def test_light_modules_can_fail(tmp_path: Path) -> None:
    tree = plant(
        tmp_path, cli="from magic_cli import report", report="from magic_cli.data import a", data__a="import torch"
    )
    assert "cli loads torch through data.a" in weight_faults(tree)
    tree = plant(tmp_path, data__a="def f():\n    import torch", tasks__init="")
    assert weight_faults(tree) == []
    (tree / "data" / "__init__.py").write_text("from pandas import DataFrame")
    assert "report loads pandas through data" in weight_faults(tree)


PROBE = """
import sys
sys.argv = ["magic", *sys.argv[1:]]
from magic_cli.cli import main
loaded = lambda: sorted({"torch", "transformers", "timm", "pandas"} & set(sys.modules))
assert not loaded(), loaded()
code = 0
try:
    main()
except SystemExit as stop:
    code = stop.code or 0
print("PROBE", code, ",".join(loaded()), file=sys.stderr)
"""


def probe(words: list[str], cwd: Path) -> tuple[int, list[str]]:
    """Run a command line in a fresh interpreter; return its exit code and the heavy packages it loaded."""
    done = subprocess.run([sys.executable, "-c", PROBE, *words], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert "PROBE" in done.stderr, done.stderr
    _, code, packages = (done.stderr.strip().splitlines()[-1] + " ").split(" ")[:3]
    return int(code), [p for p in packages.split(",") if p]


def test_light_commands_import_no_torch(tmp_path: Path) -> None:
    assert probe(["--help"], tmp_path) == (0, [])
    assert probe(["train", "--help"], tmp_path) == (0, [])
    assert probe(["train", "seg", "--set", "help"], tmp_path) == (0, [])
    assert probe(["doctor"], tmp_path)[1] == []
    examples = Path(__file__).resolve().parents[1] / "examples"
    for pred, gold in (("preds.json", "gold.json"), ("masks_preds", "masks_refs")):
        assert probe(["score", str(examples / pred), str(examples / gold), "--json"], tmp_path) == (0, [])


def test_prepare_package_and_vote_import_no_torch(drawn: Path, tmp_path: Path) -> None:
    assert probe(["prepare", "--data", str(drawn)], tmp_path) == (0, [])
    prepared = open_prepared(tmp_path / "prepared")
    for image in prepared.images_of("test"):
        mask = np.eye(image.height, image.width, dtype=np.uint8)
        write_mask(tmp_path / "seg" / "masks_preds" / f"{image.image_id}_mask_sys.tiff", mask)
    answers = prepared.questions.to_slots(prepared.questions.empty_sets())
    rows = [{"encounter_id": e.encounter_id} | answers for e in prepared.encounters_of("test")]
    (tmp_path / "answers.json").write_text(json.dumps(rows))
    assert probe(["package", "--seg", "seg", "--cvqa", "answers.json", "--split", "test"], tmp_path) == (0, [])
    assert (tmp_path / "submission.zip").is_file()
    assert probe(["predict", "cvqa", "--vote", "answers.json", "submission.zip"], tmp_path) == (0, [])


def test_probe_can_fail(tmp_path: Path) -> None:
    assert probe(["doctor", "--deep"], tmp_path)[1] == ["torch"]
