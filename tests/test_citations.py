"""What the repository cites is in the repository: files, sections, and the official scorer's numbered cases.

Read are docstrings and comments of all Python files, and the whole text of all others. A section is cited by
the document's path, a comma and the heading in quotation marks, or by a link with an anchor. Benchmarks, which are
run by hand and stand behind cited figures, load, use names that exist, and take the options that are cited.
"""

import ast
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TREES = ("magic_cli", "tests", "examples", "schemas")
SINGLE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml")
TEXTS = (".py", ".md", ".toml", ".sh", ".json")
SCORER = "examples/official-scorer.md"

FILE = re.compile(r"(?<![\w/.*<>{}-])((?:[\w-]+/)*[\w-]+(?:\.\w+)*\.(?:md|py|toml|sh|yaml|json))(?![\w-])")
SECTION = re.compile(r"""([\w/-]+\.md)\)?,? \(?"([^"]+)\"""")
ANCHOR = re.compile(r"([\w/-]+\.md)#([\w-]+)")
NUMBER = r"\d\d[a-z]?"
CASES = re.compile(rf"\b[Cc]ases? ({NUMBER}(?:(?:, and |, | and | to |/){NUMBER})*)\b")
ABSENT = re.compile(r"\bspecs/")
"""A folder that was never part of the repository."""

# Files of the official scorer, and one that a test writes for itself.
ELSEWHERE = frozenset({"run_segandcvqa_scoring.py", "evaluation/metadata.yaml", "metadata.yaml", "behave.py"})
ELSEWHERE |= {"scores.md", "nodes.yaml"}  # `magic score` and accelerate write them


def paths_of(root: Path) -> list[Path]:
    """Return every text file of the repository that may cite another."""
    trees = [path for tree in TREES for path in (root / tree).rglob("*") if path.suffix in TEXTS]
    singles = [root / name for name in SINGLE if (root / name).is_file()]
    return sorted(path for path in [*trees, *singles] if "__pycache__" not in path.parts)


def texts_of(path: Path) -> Iterator[str]:
    """Yield the texts of a file in which citations count, white space folded."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield " ".join(source.split())
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield " ".join(node.value.value.split())
    yield from comments_of(source)


def comments_of(source: str) -> Iterator[str]:
    """Yield the comments of Python source; those on consecutive lines are one."""
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1:
            yield " ".join(block)
            block = []
        block.append(token.string.lstrip("# "))
        last = token.start[0]
    yield " ".join(block)


def headings_of(path: Path) -> set[str]:
    return set(re.findall(r"^#+ (.+?) *$", path.read_text(encoding="utf-8"), re.MULTILINE))


def anchor_of(heading: str) -> str:
    """Return the anchor that a heading gets on a page: lower case, hyphens for spaces, no punctuation."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def scorer_cases(root: Path) -> set[str]:
    """Return the numbers in the first column of the tables of the official scorer's page."""
    page = root / SCORER
    return set(re.findall(rf"^\| ({NUMBER}) \|", page.read_text(encoding="utf-8"), re.MULTILINE))


class Repository:
    """The files of a repository, and what of the things that they cite is missing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = paths_of(root)
        self.names = [f"/{path.relative_to(root).as_posix()}" for path in self.paths]
        self.cases = scorer_cases(root)

    def find(self, name: str) -> Path | None:
        """Return the file that a text means by a path from the root, or by the last parts of its path."""
        for path, known in zip(self.paths, self.names, strict=True):
            if known.endswith(f"/{name}"):
                return path
        return None

    def faults(self) -> list[str]:
        """Return a line for each citation of something that is not there."""
        lines = []
        for path in self.paths:
            texts = list(texts_of(path))
            where = path.relative_to(self.root).as_posix()
            lines += [f"{where}: {fault}" for text in texts for fault in self._text_faults(text, where)]
            if any(CASES.search(text) for text in texts) and not any(Path(SCORER).name in text for text in texts):
                lines += [f"{where}: cites cases without naming {SCORER}"] if where != SCORER else []
        return lines

    def _text_faults(self, text: str, where: str) -> Iterator[str]:
        for name in FILE.findall(text):
            if is_ours(name, where) and self.find(name) is None:
                yield f"no file {name}"
        for name, heading in SECTION.findall(text):
            target = self.find(name)
            if target is not None and heading not in headings_of(target):
                yield f"no section {heading!r} in {name}"
        for name, anchor in ANCHOR.findall(text):
            target = self.find(name)
            if target is not None and anchor not in map(anchor_of, headings_of(target)):
                yield f"no section #{anchor} in {name}"
        for numbers in CASES.findall(text):
            for number in re.findall(NUMBER, numbers):
                if number not in self.cases:
                    yield f"no case {number} in {SCORER}"
        for folder in ABSENT.findall(text):
            yield f"no folder {folder}"


def is_ours(name: str, where: str) -> bool:
    """Return whether a file of this name has to be in the repository.

    JSON files without one of its folders are a user's, NAME stands for a name to choose. CHANGELOG.md may speak of
    modules that have moved since.
    """
    if name in ELSEWHERE or "NAME" in name:
        return False
    if name.endswith(".json"):
        return name.startswith(tuple(f"{tree}/" for tree in TREES))
    return not (name.endswith(".py") and where == "CHANGELOG.md")


def test_every_citation_leads_somewhere() -> None:
    assert Repository(ROOT).faults() == []


PAGE = "# The official scorer\n\n## What it does\n\n| case | input |\n|---|---|\n| 01 | a |\n| 08b | b |\n| 64 | c |\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("See examples/official-scorer.md, cases 01 to 64, and 08b.", ""),
        ("See official-scorer.md (cases 01, 08b and 64).", ""),
        ('See examples/official-scorer.md, "What it\n    does".', ""),
        ("See examples/official-scorer.md#what-it-does.", ""),
        ("Written to prepared/prepare.json and out/data_cvqa_sys.json; code.py has the rest.", ""),
        ("See https://example.org/notes.md and ~/notes.md.", ""),
        ("See specs/peers.md.", "no file specs/peers.md; no folder specs/"),
        ("See house.md section 5.", "no file house.md"),
        ("What DESIGN.md asks.", "no file DESIGN.md"),
        ("The figures: tests/benchmarks/gone.py.", "no file tests/benchmarks/gone.py"),
        ("As schemas/gone.schema.json has it.", "no file schemas/gone.schema.json"),
        ("As presets/gone.toml has it.", "no file presets/gone.toml"),
        ("As other/code.py does.", "no file other/code.py"),
        (
            'See examples/official-scorer.md, "What it says".',
            "no section 'What it says' in examples/official-scorer.md",
        ),
        ("See official-scorer.md#what-it-says.", "no section #what-it-says in official-scorer.md"),
        ("See official-scorer.md, cases 01 to 65.", f"no case 65 in {SCORER}"),
        ("See official-scorer.md, cases 02/08b.", f"no case 02 in {SCORER}"),
        ("It stops there (case 64).", f"cites cases without naming {SCORER}"),
    ],
)
@pytest.mark.parametrize("kind", ["docstring", "function", "comment", "page"])
def test_a_citation_of_nothing_is_seen(text: str, fault: str, kind: str, tmp_path: Path) -> None:
    for folder in ("examples", "magic_cli"):
        (tmp_path / folder).mkdir()
    (tmp_path / SCORER).write_text(PAGE)
    lines = "".join(f"# {line.strip()}\n" for line in text.splitlines())
    code = {
        "docstring": f"'''{text}'''\n",
        "function": f"def f():\n    '''A line.\n\n    {text}\n    '''\n",
        "comment": f"x = 1  # one\n\n{lines}",
        "page": "x = 'specs/ in a string of code is no citation (case 99)'\n",
    }
    (tmp_path / "magic_cli" / "code.py").write_text(code[kind])
    if kind == "page":
        (tmp_path / "README.md").write_text(text)
    where = "README.md" if kind == "page" else "magic_cli/code.py"
    expected = [f"{where}: {line}" for line in fault.split("; ")] if fault else []
    assert Repository(tmp_path).faults() == expected


def cases_tested(path: Path) -> set[str]:
    """Return the cases that tests of a file name: in function names, their docstrings, comments, and ids of parameters.

    "21 to 24" is all of them. The docstring of the module does not count: it tells what the tests should hold.
    """
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    lists = [numbers for comment in comments_of(source) for numbers in CASES.findall(comment)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            name = re.match(rf"test_(?:cases?_)?((?:{NUMBER}_|and_|to_)+)", node.name)
            lists += [name[1].replace("_", " ")] if name else []
            lists += CASES.findall(ast.get_docstring(node) or "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            lists += re.findall(rf"^{NUMBER}(?= |$)", node.value)
    numbers = {number for text in lists for number in re.findall(NUMBER, text)}
    for first, last in re.findall(r"(\d\d) to (\d\d)", " ; ".join(lists)):
        numbers |= {f"{number:02}" for number in range(int(first), int(last) + 1)}
    return numbers


def untested_cases(root: Path) -> list[str]:
    citing = [path for path in (root / "tests").rglob("test_*.py") if Path(SCORER).name in path.read_text()]
    return sorted(scorer_cases(root) - {number for path in citing for number in cases_tested(path)})


def test_every_case_of_the_official_scorer_has_a_test(tmp_path: Path) -> None:
    assert len(scorer_cases(ROOT)) > 60
    assert untested_cases(ROOT) == []
    for folder in ("examples", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / SCORER).write_text(PAGE)
    test = tmp_path / "tests" / "test_planted.py"
    test.write_text("'''Cases 01 to 64 of official-scorer.md.'''\n\ndef test_case_01_stops(): ...\n")
    assert untested_cases(tmp_path) == ["08b", "64"]
    test.write_text("# official-scorer.md\nIDS = ['08b a dict']\n\ndef test_01_to_03(): ...\n\n# case 64\n")
    assert untested_cases(tmp_path) == []


# Runs each script as `python SCRIPT --help` does, all in one process, which loads torch once.
PROBE = """
import ast, contextlib, importlib, io, json, runpy, sys
from pathlib import Path

def modules_of(script):
    # its own source, and that of child processes, which is text in it
    module = ast.parse(Path(script).read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(module) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [module, *(ast.parse(text) for text in texts if "\\nfrom magic_cli" in text)]

def missing(tree):
    loaded = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "magic_cli":
            for alias in node.names:
                try:
                    exec(f"from {node.module} import {alias.name} as value", here := {})
                    loaded[alias.asname or alias.name] = here["value"]
                except ImportError as error:
                    yield str(error).split(" (")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = loaded.get(node.value.id)
            if isinstance(module, type(sys)) and not hasattr(module, node.attr):
                yield f"no {node.attr} in {module.__name__}"

def run(script):
    sys.argv, sys.path[:] = [script, "--help"], [str(Path(script).parent), *path]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        return [f"--help exits with {end.code}"] if end.code else []
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return []

path, common, answers = list(sys.path), set(sys.modules), {}
for script in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        faults = run(script)
    faults += [fault for tree in modules_of(script) for fault in missing(tree)]
    answers[script] = shown.getvalue(), faults
    folder = str(Path(script).parents[1])
    for name in set(sys.modules) - common:  # the next script has to find the builders of tests by itself
        if str(getattr(sys.modules[name], "__file__", "")).startswith(folder):
            del sys.modules[name]
print(json.dumps(answers))
"""
COMMAND = re.compile(r"tests/benchmarks/(\w+)\.py([^`\n|]*)")


def benchmark_faults(root: Path) -> list[str]:
    """Return a line for each benchmark that does not load, for each name and each cited option that is missing."""
    scripts = sorted(str(path) for path in (root / "tests" / "benchmarks").glob("*.py"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", PROBE, *scripts], cwd=root, env=environment, check=True, capture_output=True, text=True
    )
    shown = {Path(script).stem: answer for script, answer in json.loads(run.stdout).items()}
    faults = [f"{name}.py: {fault}" for name, (_, missing) in shown.items() for fault in missing]
    faults += [
        f"{name}.py: no usage in --help"
        for name, (text, missing) in shown.items()
        if not missing and "usage:" not in text and "__main__" in (root / f"tests/benchmarks/{name}.py").read_text()
    ]
    for path in [*root.glob("*.md"), *root.glob("examples/*.md"), *map(Path, scripts)]:
        for name, rest in COMMAND.findall(path.read_text(encoding="utf-8")):
            options = re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest)
            text = shown[name][0] if name in shown else "--"
            faults += [
                f"{path.name}: {name}.py has no {option}"
                for option in options
                if not re.search(rf"{option}(?![\w-])", text)
            ]
    return faults


def test_benchmarks_load_and_take_the_options_that_are_cited() -> None:
    assert len(list((ROOT / "tests" / "benchmarks").glob("*.py"))) > 15
    assert benchmark_faults(ROOT) == []


def test_a_broken_benchmark_is_seen(tmp_path: Path) -> None:
    sources = {
        "builder": "import reference_scorer\n",
        "lazy": "def f():\n    from magic_cli.metrics import bootstrap, tally\n    bootstrap.paired, bootstrap.gone\n",
        "child": "CHILD = '\\nfrom magic_cli.records import Gone\\n'\n",
        "silent": "if __name__ == '__main__':\n    pass\n",
        "sound": "import argparse\np = argparse.ArgumentParser()\np.add_argument('--kills')\np.parse_args()\n",
    }
    (tmp_path / "tests" / "benchmarks").mkdir(parents=True)
    (tmp_path / "tests" / "reference_scorer.py").touch()
    for name, source in sources.items():
        (tmp_path / "tests" / "benchmarks" / f"{name}.py").write_text(source)
    (tmp_path / "README.md").write_text("`python tests/benchmarks/sound.py --kills 3 --kill 4 -- --x`")
    assert sorted(benchmark_faults(tmp_path)) == [
        "README.md: sound.py has no --kill",
        "README.md: sound.py has no --x",
        "builder.py: ModuleNotFoundError: No module named 'reference_scorer'",
        "child.py: cannot import name 'Gone' from 'magic_cli.records'",
        "lazy.py: cannot import name 'tally' from 'magic_cli.metrics'",
        "lazy.py: no gone in magic_cli.metrics.bootstrap",
        "silent.py: no usage in --help",
    ]
