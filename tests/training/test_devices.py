"""What accelerate is told in the environment, and what it keeps from one run of a process to the next."""

import pytest
import torch
from accelerate import PartialState
from launchers import launch

from magic_cli.config import Config
from magic_cli.errors import ConfigError
from magic_cli.training.devices import accelerator_for


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_types_that_shard_a_model_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch, 0)
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ConfigError, match="data parallelism") as caught:
        accelerator_for(Config(), "cpu")
    assert caught.value.exit_code == 3


def test_a_further_run_of_a_process_is_on_the_device_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate keeps the device of the first run; here one on a GPU, as far as its state tells."""
    accelerator_for(Config(), "cpu")
    monkeypatch.setitem(PartialState._shared_state, "_cpu", False)
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("cuda"))
    assert PartialState().device.type == "cuda"
    assert accelerator_for(Config(), "cpu").device.type == "cpu"
    assert PartialState().device.type == "cpu"
