"""What accelerate is told in the environment."""

import pytest
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
