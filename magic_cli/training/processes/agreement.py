"""Whether all processes of a training were given the same: else they wait for each other, or train on two settings."""

from collections.abc import Mapping

from accelerate import Accelerator
from accelerate.utils import gather_object

from magic_cli.errors import ConfigError, problem, shorten

_OWN = ("workers", "weights_dir", "image_weights", "text_weights", "concepts", "init")  # may differ between machines


def require_same(accelerator: Accelerator, facts: Mapping[str, object]) -> None:
    """Raise ConfigError in all processes if one has other facts by name, such as settings; a process alone has none.

    What names a path, or the number of loaders, may differ between machines.
    """
    if accelerator.num_processes == 1:
        return
    ours = {name: str(value) for name, value in facts.items() if name not in _OWN}
    first, *others = gather_object([ours])
    for rank, theirs in enumerate(others, 1):
        names = [name for name in first | theirs if first.get(name) != theirs.get(name)]
        if names:
            told = (f"{name}={theirs.get(name)}, not {first.get(name)}" for name in names)
            got, remedy = f"{shorten(told)} in process {rank}", "give all processes the same command"
            raise ConfigError(problem("several processes", got, "the same in all", remedy))
