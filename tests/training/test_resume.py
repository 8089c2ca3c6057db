"""A run of everything that draws and averages, killed without warning: crops, colour, tuned encoder, EMA, workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

SETTINGS = (
    *("finetune=all", "encoder_lr=1e-3", "crop=0.5", "colour=0.2", "ema=0.9", "grad_accum_steps=2"),
    *("batch_size=3", "epochs=12", "patience=0", "workers=1"),
)


def command(data: Path, out: Path, cache: Path) -> list[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    words = ["train", "seg", "--preset", "tiny", "--data", str(data), "--out", str(out), "--cache-dir", str(cache)]
    return [sys.executable, "-m", "magic_cli", *words, "--device", "cpu", *settings]


def test_a_killed_run_with_augmentation_and_averages_ends_in_the_same_weights(
    drawn_prepared: Path, tmp_path: Path
) -> None:
    out, other, cache = tmp_path / "killed", tmp_path / "unbroken", tmp_path / "cache"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = command(drawn_prepared, out, cache)
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not (out / "state.pt").is_file() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)  # its data loader's workers too
    assert process.returncode == -signal.SIGKILL
    finished = len((out / "metrics.jsonl").read_text().splitlines())
    assert 1 <= finished < 12
    subprocess.run([*words, "--resume"], check=True, capture_output=True, env=environment)
    subprocess.run(command(drawn_prepared, other, cache), check=True, capture_output=True, env=environment)
    assert (out / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for name in ("best.pt", "state.pt"):
        ours, theirs = (torch.load(run / name, weights_only=True) for run in (out, other))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours["weights"][key], theirs["weights"][key]) for key in theirs["weights"])
    assert all(torch.equal(ours["average"][key], theirs["average"][key]) for key in theirs["average"])
    assert any(key.startswith("images.") for key in ours["weights"])
