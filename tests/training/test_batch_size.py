"""training/monitoring/batch_size.py and out_of_memory.py: what fits is found, and what does not has a remedy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_options import train_options

from magic_cli.commands.cross_validate import cross_validate
from magic_cli.commands.run_setup import TrainOptions
from magic_cli.commands.train import train
from magic_cli.config import resolve
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.errors import ConfigError, ResourceError
from magic_cli.io.json_files import read_json
from magic_cli.tasks import get
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.tasks.retrieve.config import RetrieveConfig
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.model import SegModel
from magic_cli.training.monitoring import batch_size, out_of_memory
from magic_cli.training.monitoring.batch_size import largest_fitting
from magic_cli.training.task_model import Batch

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("first", [1, 3, 8, 16, 100, 4096])
@pytest.mark.parametrize(
    ("room", "most", "expected"), [(16, 100, 16), (31, 100, 16), (1, 100, 1), (0, 9, 0), (99, 9, 8)]
)
def test_the_largest_power_of_two_that_fits(first: int, room: int, most: int, expected: int) -> None:
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= room

    assert largest_fitting(fits, first, most) == expected
    assert len(asked) == len(set(asked))
    assert all(size <= most and size.bit_count() == 1 for size in asked)


class SmallGpu:
    """A GPU that is full above a number of photos; what it was asked for."""

    def __init__(self, patch: pytest.MonkeyPatch, room: int) -> None:
        self.asked: list[int] = []
        original = SegModel.loss

        def loss(model: SegModel, batch: Any) -> torch.Tensor:
            found = original(model, batch)  # random numbers are drawn, statistics are updated
            size = len(batch.ids)
            self.asked.append(size)
            if size > room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return found

        patch.setattr(SegModel, "loss", loss)
        patch.setattr(batch_size, "searches", lambda _: True)


def trained(data: Path, out: Path, *settings: str, **more: Any) -> Path:
    train("seg", data, out, train_options(out.parent / "cache", "epochs=2", "dropout=0.2", *settings, **more))
    return out


def test_a_run_with_the_found_number_is_one_with_the_given_number(
    drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trial changes neither weights nor random numbers nor moments: the files are the same, byte for byte."""
    given = trained(drawn_prepared, tmp_path / "given", "batch_size=2")
    with monkeypatch.context() as patch:
        gpu = SmallGpu(patch, room=2)
        found = trained(drawn_prepared, tmp_path / "found", "batch_size=auto")
    assert gpu.asked[:4] == [8, 4, 2, 2]  # from the preset's down, two steps of what fits
    assert set(gpu.asked[4:]) == {2}
    assert "batch_size=auto: 2 is the largest power of two that fits (without it: 8)" in capsys.readouterr().err
    for name in ("best.pt", "metrics.jsonl"):
        assert (found / name).read_bytes() == (given / name).read_bytes()
    assert read_json(found / "run.json")["settings"]["batch_size"] == 2
    states = [torch.load(run / "state.pt", weights_only=True) for run in (found, given)]
    assert torch.equal(states[0]["random"]["cpu"], states[1]["random"]["cpu"])


def test_a_resumed_run_keeps_the_found_number(
    drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallGpu(monkeypatch, room=2)
    out = trained(drawn_prepared, tmp_path / "seg", "batch_size=auto")
    monkeypatch.setattr(batch_size, "with_batch_size", lambda *_: pytest.fail("nothing is sought again"))
    trained(drawn_prepared, out, "batch_size=auto", resume=True)
    assert read_json(out / "run.json")["settings"]["batch_size"] == 2


def test_not_even_one_that_fits_has_a_remedy(
    drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallGpu(monkeypatch, room=0)
    with pytest.raises(ResourceError, match="not even one sample fits; use --set image_size=32, or another machine"):
        trained(drawn_prepared, tmp_path / "seg", "batch_size=auto")
    assert not (tmp_path / "seg").exists()


def test_another_error_of_the_trial_is_not_taken_for_a_lack_of_memory(
    drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(_: SegModel, batch: Batch) -> torch.Tensor:
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(SegModel, "loss", loss)
    monkeypatch.setattr(batch_size, "searches", lambda _: True)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        trained(drawn_prepared, tmp_path / "seg", "batch_size=auto")


def test_on_a_cpu_the_preset_decides(drawn_prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = trained(drawn_prepared, tmp_path / "seg", "batch_size=auto")
    assert "batch_size=auto is for CUDA, not cpu: batch_size=8, as without it" in capsys.readouterr().err
    assert read_json(out / "run.json")["settings"]["batch_size"] == 8


def test_folds_share_the_found_number(drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "searches", lambda _: True)
    options = train_options(tmp_path / "cache", "epochs=1", "batch_size=auto")
    cross_validate("cvqa", 2, drawn_prepared, tmp_path / "cvqa", options)
    found = read_json(tmp_path / "cvqa" / "folds.json")["config"]["batch_size"]
    samples = train_samples(drawn_prepared)
    assert found == 1 << (samples.bit_length() - 1)  # everything fits: as many as there are


def train_samples(data: Path) -> int:
    return len(get("cvqa").training_samples(open_prepared(data), "train", resolve(CvqaConfig, "tiny")))


def test_the_settings_may_be_texts_or_values_or_in_a_file(tmp_path: Path) -> None:
    for settings in (["batch_size=auto", "epochs=5"], {"batch_size": "auto", "epochs": 5}):
        options = TrainOptions(preset="tiny", settings=settings)
        assert options.seeks_batch_size("seg")
        assert options.given("seg") == {"epochs", "preset"}
        config = options.resolve(SegConfig)
        assert (config.batch_size, config.epochs) == (8, 5)
    assert TrainOptions(settings="batch_size=auto").seeks_batch_size("seg")
    assert not TrainOptions(settings=["batch_size=16"]).seeks_batch_size("seg")
    with pytest.raises(ConfigError, match="batch_size=many: expected a whole number"):
        TrainOptions(settings=["batch_size=many"]).resolve(SegConfig)
    file = tmp_path / "my.toml"
    file.write_text('[seg]\nbatch_size = "auto"\nepochs = 5\n')
    options = TrainOptions(preset="tiny", config=file)
    assert (options.seeks_batch_size("seg"), options.seeks_batch_size("cvqa")) == (True, False)
    assert options.given("seg") == {"epochs", "preset"}
    assert options.resolve(SegConfig).batch_size == 8
    assert not replace(options, settings=["batch_size=4"]).seeks_batch_size("seg")


def test_the_largest_samples_are_tried(drawn_prepared: Path) -> None:
    prepared: Prepared = open_prepared(drawn_prepared)
    samples = get("cvqa").training_samples(prepared, "train", resolve(CvqaConfig, "tiny"))
    ordered = batch_size._largest(samples)
    assert sorted(map(id, ordered)) == sorted(map(id, samples))
    assert [len(sample.images) for sample in ordered] == sorted((len(s.images) for s in samples), reverse=True)


def told(config: Any, device: torch.device, compares: bool, patch: pytest.MonkeyPatch) -> str:
    patch.setattr(out_of_memory, "memory_text", lambda _: "GPU 79.1 of 80 GB")
    return out_of_memory.remedy(config, device, compares)


def test_the_remedy_has_this_runs_values(monkeypatch: pytest.MonkeyPatch) -> None:
    seg = resolve(SegConfig, "small", ["batch_size=24", "grad_accum_steps=2"])
    assert told(seg, CUDA, False, monkeypatch) == (
        "batch_size=24 does not fit (GPU 79.1 of 80 GB); train anew with --overwrite and --set batch_size=12 --set"
        " grad_accum_steps=4 (48 samples an update, as now), or --set precision=bf16 (activations take half), or --set"
        " batch_size=auto (the largest that fits)"
    )
    assert "--set batch_size=2 --set grad_accum_steps=3 (6 samples an update, now 5)" in told(
        replace(seg, batch_size=5, grad_accum_steps=1, precision="bf16"), CPU, False, monkeypatch
    )
    alone = told(replace(seg, batch_size=1, workers=0), CPU, False, monkeypatch)
    assert alone.endswith("use --set image_size=160, or --finetune head, or another machine")
    assert told(replace(seg, batch_size=1, workers=3), CPU, False, monkeypatch).endswith("and --set workers=0")


def test_where_the_loss_compares_photos_parts_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain = resolve(PretrainConfig, "small")
    assert "--set micro_batch=32 (the same gradient, in parts)" in told(pretrain, CUDA, True, monkeypatch)
    assert "micro_batch=4 (" in told(replace(pretrain, micro_batch=8), CUDA, True, monkeypatch)
    line = told(resolve(RetrieveConfig, "small"), CUDA, True, monkeypatch)
    assert "--set batch_size=24 (each photo is compared with fewer)" in line
    assert "grad_accum_steps" not in line


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB"), MemoryError()])
def test_a_training_that_runs_out_of_memory_says_what_to_type(
    drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def loss(_: SegModel, batch: Batch) -> torch.Tensor:
        raise error

    monkeypatch.setattr(SegModel, "loss", loss)
    with pytest.raises(ResourceError, match=r"^not enough memory") as caught:
        trained(drawn_prepared, tmp_path / "seg")
    assert caught.value.exit_code == 3
    [line] = caught.value.problems
    assert "batch_size=8 does not fit (" in line
    assert "train anew with --overwrite and --set batch_size=4 --set grad_accum_steps=2 (8 samples an update" in line
    assert line.endswith(f"if others took it, {tmp_path / 'seg'}: the same command with --resume goes on")
