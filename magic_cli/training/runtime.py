"""Where a run computes and caches."""

import dataclasses
from pathlib import Path

from magic_cli.config import Config
from magic_cli.io.files import cache_root
from magic_cli.models.cache.features import FeatureCache


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run computes and caches: `cache` None switches the feature cache off."""

    device: str = "auto"
    cache: Path | None = None

    @classmethod
    def of(cls, device: str, cache_dir: Path | None, no_cache: bool) -> "Place":
        """Return the place that the options --device, --cache-dir and --no-cache name."""
        return cls(device, None if no_cache else cache_dir or cache_root() / "features")

    def features(self, config: Config) -> FeatureCache | None:
        """Return the feature cache in the precision that a config names."""
        return FeatureCache(self.cache, config.cache_dtype) if self.cache else None
