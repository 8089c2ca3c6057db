"""benchmarks/gpu.py rehearsed on the CPU: its checks, its steps, its table and its exit code."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from benchmark_scripts import benchmark

REHEARSED = ("step retrieve bf16", "retrieve bf16", "cache retrieve", "resume pretrain", "contrastive")
REHEARSED += ("batch 4", "speed pretrain")


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    return benchmark("gpu")


def test_a_rehearsal_is_as_expected(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "compile_encoder", lambda *_: None)  # takes seconds
    code = gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "gpu.json"), "--only", *REHEARSED])
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert [row for row in found["rows"] if not row["ok"]] == []
    assert code == 0
    assert set(found["machine"]) == {"device", "torch", "transformers", "timm", "accelerate"}
    values = {(row["check"], row["what"]): row["value"] for row in found["rows"]}
    assert values["resume pretrain", "weights, relative difference"] == "0"
    assert values["cache retrieve", "encoded again on the other device"] == "0"
    assert "times the plain loop" in values["speed pretrain, CLIP ViT-B/16", "magic"]
    assert "photos/s" in values["step of 4 photos", "seconds"]
    assert "| step retrieve bf16 | waits for the GPU | nowhere | nowhere |  |" in capsys.readouterr().out


def test_what_is_not_as_expected_is_told_and_the_rest_goes_on(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> list[object]:
        raise RuntimeError("CUDA error: no kernel image")

    good = gpu.Row("good", "a", "1", "1")
    several = {
        "broken": broken,
        "other": lambda _: [gpu.Row("other", "b", "2", "3", ok=False)],
        "good": lambda _: [good],
    }
    monkeypatch.setattr(gpu, "all_checks", lambda _: several)
    assert gpu.main(["--device", "cpu", "--tiny"]) == 1
    out = capsys.readouterr().out
    assert "| broken | failed | RuntimeError: CUDA error: no kernel image |  | **not so** |" in out
    assert "| other | b | 2 | 3 | **not so** |" in out
    assert "| good | a | 1 | 1 |  |" in out
    assert gpu.main(["--device", "cpu", "--tiny", "--minutes", "0"]) == 0
    assert "| good | not run | after 0 minutes |" in capsys.readouterr().out


def test_without_a_gpu_the_benchmark_says_how_it_is_rehearsed(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--device cpu --tiny" in capsys.readouterr().err


def test_decisions_that_differ_are_counted(gpu: ModuleType) -> None:
    import gpu_checks
    import numpy as np

    from magic_cli.tasks.seg.decide import MaskPrediction

    one = MaskPrediction("a", np.array([[0.2, 0.6], [0.7, 0.4]], np.float32))
    other = MaskPrediction("a", np.array([[0.2, 0.4], [0.7, 0.4]], np.float32))
    furthest, changed = gpu_checks.distance([one], [other])
    assert (round(furthest, 6), changed) == (0.2, 0.25)
    assert gpu_checks.distance([one], [MaskPrediction("b", one.probability)]) == (float("inf"), 1.0)
