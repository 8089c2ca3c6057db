"""The shape of the code: one direction of imports, no circle, sizes, signatures, no torch behind light commands.

The import graph is that of all imports: at the top of a module, inside functions and for types only. Each rule is also
tried on a small planted package that breaks it. No exceptions are listed.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import magic_cli
from magic_cli.data.imaging.masks import write_mask
from magic_cli.data.prepared import open_prepared

PACKAGE = Path(magic_cli.__file__).parent
# Lowest first: a module imports from lower rows and from its own package.
LAYERS = (
    ("",),  # magic_cli/__init__.py: the version; the public functions are looked up when they are asked for
    ("errors",),
    ("records",),
    ("metrics", "io"),
    ("preset_files", "setting"),
    ("config",),
    ("data", "models"),
    ("training", "submission"),
    ("tasks", "report"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
HEAVY = frozenset(
    {"matplotlib", "torch", "torchvision", "transformers", "timm", "accelerate", "pandas", "scipy", "sklearn"}
)
# The only modules that load a heavy package when they are imported; a name stands for all below it.
HEAVY_MODULES = (
    "models",
    "training",
    "tasks.encoding",
    "tasks.*.model",
    "tasks.cvqa.batch",
    "tasks.cvqa.responses",
    "commands.predict",
)
HEAVY_MODULES += ("tasks.cvqa.bottleneck", "tasks.*.graph", "commands.export.onnx_file", "commands.export.hub_folder")
LIGHT_MODULES = (
    "models.weights",
    "models.saved_meta",
    "models.licences",
    "models.cache.store",
    "training.task",
    "training.parts",
    "training.run_folder",
    "training.runtime",
    "training.workers",
)
LIGHT_MODULES += ("models", "models.cache", "training")  # the packages themselves
MOST_LINES, MOST_MODULES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 400, 20, 60, 6
VAGUE = frozenset({"found", "one", "some", "told"})


def modules(root: Path) -> dict[str, Path]:
    """Return every module of the package at `root` by its dotted name without the package ("" is the package)."""
    names = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def parsed(path: Path) -> ast.Module:
    return _parsed(path, path.stat().st_mtime_ns)


@cache
def _parsed(path: Path, _: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def walk(node: ast.AST, at_import: bool) -> Iterator[ast.AST]:
    """Yield all nodes; with `at_import` only those that run when the module is imported."""
    yield node
    if at_import and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    if at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    for child in ast.iter_child_nodes(node):
        yield from walk(child, at_import)


def imports(path: Path, name: str, at_import: bool) -> Iterator[str]:
    """Yield the full dotted names that module `name` imports, relative ones resolved, `import_module` included."""
    package = ["magic_cli", *name.split(".")] if name else ["magic_cli"]
    for node in walk(parsed(path), at_import):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            drop = node.level - (1 if path.name == "__init__.py" else 0)
            base = [*package[: len(package) - drop]] if node.level else []
            base += (node.module or "").split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value.rstrip(".")


def own_module(target: str, known: Mapping[str, Path]) -> str | None:
    """Return the module of ours that importing `target` loads; None for other packages."""
    if target.split(".")[0] != "magic_cli":
        return None
    parts = target.split(".")[1:]
    while parts and ".".join(parts) not in known:
        parts.pop()
    return ".".join(parts)


def edges(root: Path) -> dict[str, set[str]]:
    """Return the import graph of the package at `root`, lazy and type-only imports included."""
    known = modules(root)
    return {
        name: {own for target in imports(path, name, False) if (own := own_module(target, known)) not in (None, name)}
        for name, path in known.items()
    }


def head(name: str) -> str:
    return name.split(".")[0]


def layer_faults(root: Path) -> list[str]:
    graph = edges(root)
    faults = [f"{name}: not in the table of layers" for name in graph if head(name) not in RANK]
    for name, targets in graph.items():
        for target in sorted(targets):
            if {head(name), head(target)} <= RANK.keys() and head(name) != head(target):
                faults += [f"{name} -> {target}"] if RANK[head(target)] >= RANK[head(name)] else []
    return faults


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one module, each sorted."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        todo, seen = [start], set()
        while todo:
            for target in graph.get(todo.pop(), set()) - seen:
                seen.add(target)
                todo.append(target)
        reach[start] = seen
    return sorted({tuple(sorted({n, *(m for m in reach[n] if n in reach[m])})) for n in graph if n in reach[n]})


def size_faults(root: Path) -> list[str]:
    counts = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules(root).items()}
    faults = [f"{name}: {count} lines" for name, count in counts.items() if count > MOST_LINES]
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        number = len(list(folder.glob("*.py")))
        faults += [f"{folder.name}/: {number} modules"] if number > MOST_MODULES else []
    return faults


def functions(root: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    for name, path in modules(root).items():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef):
                yield name, node


def parameters(node: ast.FunctionDef) -> list[ast.arg]:
    spec = node.args
    named = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]
    named += [arg for arg in (spec.vararg, spec.kwarg) if arg is not None]
    return [arg for arg in named if arg.arg not in ("self", "cls")]


def function_faults(root: Path) -> list[str]:
    """Return what is too long, takes too much, or takes something that its name does not tell."""
    faults = []
    for name, node in functions(root):
        lines, taken = (node.end_lineno or 0) - node.lineno + 1, parameters(node)
        faults += [f"{name}.{node.name}: {lines} lines"] if lines > MOST_FUNCTION_LINES else []
        if len(taken) > MOST_PARAMETERS and head(name) != "cli":
            faults.append(f"{name}.{node.name}: {len(taken)} parameters")
        faults += [f"{name}.{node.name}: parameter {arg.arg}" for arg in taken if arg.arg in VAGUE]
    return faults


def type_faults(root: Path) -> list[str]:
    """Return signatures that hide what they take: `**options: Any` anywhere; `Any` where verbs and loops are."""
    faults = []
    for name, node in functions(root):
        keywords = node.args.kwarg
        if keywords is not None and keywords.annotation is not None and ast.unparse(keywords.annotation) == "Any":
            faults.append(f"{name}.{node.name}: **{keywords.arg}: Any")
        if head(name) not in ("commands", "training", "cli"):
            continue
        texts = [ast.unparse(arg.annotation) for arg in parameters(node) if arg.annotation is not None]
        texts += [ast.unparse(node.returns)] if node.returns is not None else []
        bad = "dict[str, Any]" if head(name) == "cli" else "Any"
        faults += [f"{name}.{node.name}: {text}" for text in texts if bad in text]
    return faults


def name_faults(root: Path) -> list[str]:
    banned = {"utils", "util", "common", "helpers", "misc"}
    return [name for name in modules(root) if banned & set(name.split("."))]


def task_faults(root: Path) -> list[str]:
    """Return where a module outside of tasks/ compares something with the name of a task."""
    names = {path.name for path in (root / "tasks").iterdir() if path.is_dir() and not path.name.startswith("_")}
    faults = []
    for name, path in modules(root).items():
        for node in ast.walk(parsed(path)) if head(name) != "tasks" else ():
            equal = isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops)
            sides = [node.left, *node.comparators] if equal else []
            if any(isinstance(side, ast.Constant) and side.value in names for side in sides):
                faults.append(f"{name}:{node.lineno}")
    return faults


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


def is_heavy(name: str) -> bool:
    parts = name.split(".")
    starred = f"tasks.*.{parts[2]}" if parts[0] == "tasks" and len(parts) > 2 else name
    heavy = any(n == known or n.startswith(f"{known}.") for n in (name, starred) for known in HEAVY_MODULES)
    return heavy and name not in LIGHT_MODULES


def weight_faults(root: Path) -> list[str]:
    light = [name for name in modules(root) if not is_heavy(name)]
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
        ({"data__gold": "from magic_cli.tasks import seg", "tasks__seg": ""}, "data.gold -> tasks.seg"),
        ({"data__a": "import magic_cli.models.b", "models__b": ""}, "data.a -> models.b"),
        ({"models__a": "from ..data import b", "data__b": ""}, "models.a -> data.b"),
        ({"metrics__a": "from magic_cli.io.b import f", "io__b": "f = 1"}, "metrics.a -> io.b"),
        ({"config": "def f():\n    from magic_cli.tasks import seg", "tasks__seg": ""}, "config -> tasks.seg"),
        ({"io__run_record": "from magic_cli.commands import a", "commands__a": ""}, "io.run_record -> commands.a"),
        (
            {"training__a": "if TYPE_CHECKING:\n    from magic_cli.tasks.b import B", "tasks__b": ""},
            "training.a -> tasks.b",
        ),
        (
            {"report__a": "import importlib\nimportlib.import_module(f'magic_cli.tasks.{1}')", "tasks__a": ""},
            "report.a -> tasks",
        ),
        ({"newcomer": ""}, "newcomer: not in the table of layers"),
    ],
)
def test_layers_can_fail(tmp_path: Path, files: dict[str, str], fault: str) -> None:
    assert layer_faults(plant(tmp_path, **files)) == [fault]


def test_layers_allow_what_is_lower_or_beside(tmp_path: Path) -> None:
    tree = plant(tmp_path, tasks__a="from magic_cli.training import b", training__b="from magic_cli.data.c import d")
    plant(tree, data__c="from magic_cli.data import e\nimport numpy", data__e="", report__f="import os")
    assert layer_faults(tree) == []


def test_no_circle(tmp_path: Path) -> None:
    assert circles(edges(PACKAGE)) == []
    tree = plant(tmp_path, io__a="def f():\n    from magic_cli.io import b", io__b="from magic_cli.io import c")
    assert circles(edges(tree)) == []
    plant(tree, io__c="if TYPE_CHECKING:\n    from magic_cli.io.a import f")
    assert circles(edges(tree)) == [("io.a", "io.b", "io.c")]


def test_sizes(tmp_path: Path) -> None:
    assert size_faults(PACKAGE) == []
    tree = plant(tmp_path, report__a="x = 1\n" * 401, io__b="x = 1\n" * 400, **{f"data__m{i}": "" for i in range(20)})
    assert size_faults(tree) == ["report.a: 401 lines", "data/: 21 modules"]


def test_no_drawer_for_everything(tmp_path: Path) -> None:
    assert name_faults(PACKAGE) == []
    assert name_faults(plant(tmp_path, data__utils="", common="")) == ["common", "data.utils"]


def test_functions(tmp_path: Path) -> None:
    assert function_faults(PACKAGE) == []
    long, wide = "def f(a):\n" + "    a += 1\n" * 60, "def g(a, b, c, *, d, e, f, g):\n    pass"
    tree = plant(tmp_path, io__a=long, io__b=wide, io__c="def h(self, told):\n    pass", cli__d=wide)
    assert function_faults(tree) == ["io.a.f: 61 lines", "io.b.g: 7 parameters", "io.c.h: parameter told"]


def test_types_explain_themselves(tmp_path: Path) -> None:
    assert type_faults(PACKAGE) == []
    tree = plant(tmp_path, commands__a="def f(x: Any) -> dict[str, Any]: ...", data__b="def g(**x: Any) -> None: ...")
    plant(tree, data__c="def h(x: Any) -> int: ...", cli__d="def i(x: dict[str, Any], y: Any) -> None: ...")
    faults = ["cli.d.i: dict[str, Any]", "commands.a.f: Any", "commands.a.f: dict[str, Any]", "data.b.g: **x: Any"]
    assert type_faults(tree) == faults


def test_tasks_are_asked_for_their_facts(tmp_path: Path) -> None:
    assert task_faults(PACKAGE) == []
    tree = plant(tmp_path, tasks__seg__a="x == 'seg'", report__b="f(x)\nif x == 'seg':\n    pass", data__c="'seg'")
    assert task_faults(tree) == ["report.b:2"]


def test_light_modules_load_nothing_heavy() -> None:
    assert weight_faults(PACKAGE) == []


def test_light_modules_can_fail(tmp_path: Path) -> None:
    tree = plant(tmp_path, cli__app="from magic_cli.report import a", report__a="from magic_cli.data import b")
    plant(tree, data__b="import torch")
    assert "cli.app loads torch through data.b" in weight_faults(tree)
    tree = plant(tree, data__b="def f():\n    import torch", tasks__init="", tasks__x__model="import torch")
    assert weight_faults(tree) == []
    (tree / "data" / "__init__.py").write_text("from pandas import DataFrame")
    assert "report.a loads pandas through data" in weight_faults(tree)


PROBE = """
import sys
sys.argv = ["magic", *sys.argv[1:]]
from magic_cli.cli.app import main
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
    rows = [{"encounter_id": e.case_id} | answers for e in prepared.cases_of("test")]
    (tmp_path / "answers.json").write_text(json.dumps(rows))
    assert probe(["package", "--seg", "seg", "--cvqa", "answers.json", "--split", "test"], tmp_path) == (0, [])
    assert (tmp_path / "submission.zip").is_file()
    assert probe(["predict", "cvqa", "--vote", "answers.json", "submission.zip"], tmp_path) == (0, [])


def test_probe_can_fail(tmp_path: Path) -> None:
    assert probe(["doctor", "--deep"], tmp_path)[1] == ["torch"]
