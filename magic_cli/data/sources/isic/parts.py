"""Which challenge a file is of, by its name and its folders, and which of several official parts counts."""

import re
from pathlib import PurePath

_YEAR = re.compile(r"(?:ISIC|ISBI)[-_ ]?(20(?:16|17|18|19|20))(?!\d)", re.I)


def year_of(name: str) -> int:
    """Return the year of the challenge that a relative path names, the innermost one; 0 if it names none.

    >>> year_of("ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.jpg"), year_of("images/ISIC_2019001.jpg")
    (2016, 0)
    """
    for part in reversed(PurePath(name).parts):
        years = _YEAR.findall(part)
        if years:
            return int(years[-1])
    return 0


def strictest(splits: set[str]) -> str:
    """Return the split of an image that is of several parts: what is in a test part must not be trained on."""
    return next((split for split in ("test", "valid", "train") if split in splits), "")
