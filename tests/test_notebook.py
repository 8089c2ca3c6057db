"""examples/notebook.md: its cells run as a researcher would run them, and every result has its record."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from recorded_run import record

import magic_cli
from magic_cli.data.sources.synthetic.dataset import draw_dataset
from magic_cli.io import schema

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ("prepared", "runs/seg", "runs/cvqa-folds/folds", "valid/seg", "report", "runs/retrieve")


def cells() -> list[str]:
    """The Python cells of the page, in order."""
    text = (ROOT / "examples" / "notebook.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_notebook_runs_and_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_dataset(tmp_path / "DermaVQA", {"train": 6, "valid": 2, "test": 1})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names: dict[str, object] = {}
    assert len(cells()) >= 7
    for cell in cells():
        exec(compile(cell, "notebook.md", "exec"), names)  # noqa: S102
    for name in RESULTS:
        written = record(tmp_path, f"{name}/run.json")
        assert schema.problems("run", written, name) == []
        assert (written["argv"], written["exit"]) == (None, 0)
        assert written["outputs"]
    assert names["again"].identical  # type: ignore[attr-defined]
    assert "(3, " not in capsys.readouterr().err


def test_the_package_hands_out_its_verbs_and_loads_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, magic_cli\n"
        "magic_cli.score, magic_cli.train, magic_cli.predict  # functions cost nothing until they are called\n"
        "before = set(sys.modules)\n"
        "names = set(magic_cli.__all__) - {'predict', 'PredictOptions'}  # they load torch\n"
        "for name in names: assert getattr(magic_cli, name) is not None, name\n"
        "assert set(magic_cli.__all__) <= set(dir(magic_cli))\n"
        "heavy = {'torch', 'transformers', 'timm', 'pandas', 'typer', 'rich'} & set(sys.modules)\n"
        "light = {name for name in before if name.startswith(('magic_cli.', 'numpy'))}\n"
        "print(sorted(heavy), sorted(light))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"
    with pytest.raises(AttributeError, match="nothing"):
        magic_cli.nothing  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    stub = (Path(magic_cli.__file__).with_suffix(".pyi")).read_text(encoding="utf-8")
    assert sorted(re.findall(r" as (\w+)", stub)) == sorted(set(magic_cli.__all__) - {"__version__"})


def test_a_lazy_function_looks_like_the_function_itself() -> None:
    from magic_cli.commands.train import train

    assert magic_cli.train.__doc__ == train.__doc__
    assert inspect.signature(magic_cli.train) == inspect.signature(train)
    assert (magic_cli.train.__name__, repr(magic_cli.train)) == ("train", "<function magic_cli.train>")
