"""The device and the feature cache of a run; imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from magic_cli.config import Config
from magic_cli.io.files import StrPath, cache_root

if TYPE_CHECKING:
    from magic_cli.models.cache.features import FeatureCache


@dataclass(frozen=True)
class Runtime:
    """The device of a run, and the folder of its feature cache; None: features are not cached."""

    device: str = "auto"
    cache: Path | None = None

    def features(self, config: Config) -> "FeatureCache | None":
        """Return the feature cache in the config's number format; None without one."""
        from magic_cli.models.cache.features import FeatureCache

        return FeatureCache(self.cache, config.cache_dtype) if self.cache else None


@dataclass(frozen=True)
class RuntimeOptions:
    """Options of every verb that computes.

    Attributes:
        device: auto, cpu, cuda or mps.
        cache_dir: folder of cached features; None for the user's default folder.
        no_cache: do not cache features of frozen encoders.
    """

    device: str = "auto"
    cache_dir: StrPath | None = None
    no_cache: bool = False

    def runtime(self) -> Runtime:
        """Return the device and the cache folder that these options name."""
        if self.no_cache:
            return Runtime(self.device)
        return Runtime(self.device, cache_root() / "features" if self.cache_dir is None else Path(self.cache_dir))


class Probed(NamedTuple):
    """What probes are scored on, attributes to probe instead of classes, and Hub checkpoints (None: the training's)."""

    split: str
    attributes: tuple[str, ...] = ()
    weights: str | None = None
