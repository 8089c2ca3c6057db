"""Hashes of texts, and a text as a bag of hashed words: no vocabulary to store, no special case for unseen words.

Weinberger et al., Feature hashing for large scale multitask learning (2009), without signs. The weights of words are
learned from training texts only (tasks/cvqa/model.py).
"""

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[\u3400-\u9fff]+|[^\W_]{2,}")


def text_hash(text: str) -> int:
    """Return a signed 64-bit hash of a text, the same in every process; 0 for ""."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little", signed=True) if text else 0


@lru_cache(maxsize=4096)  # of texts: training uses the same ones in every epoch
def bag_of_words(text: str, size: int) -> NDArray[np.float32]:
    """Return 1 + log(count) of the words in each of `size` buckets, 0 for an empty bucket; float32 (size,), read-only.

    Words of two letters or more, lower-case; Chinese, which has no spaces, in pairs of characters.
    """
    counts = Counter(zlib.crc32(word.encode()) % size for word in _words(text))
    bag = np.zeros(size, np.float32)
    bag[list(counts)] = 1 + np.log(np.array(list(counts.values()), np.float32))
    bag.flags.writeable = False
    return bag


def _words(text: str) -> list[str]:
    words = []
    for run in _WORD.findall(text.lower()):
        pairs = run[0] >= "\u3400" and run[0] <= "\u9fff"
        words += [run[at : at + 2] for at in range(max(1, len(run) - 1))] if pairs else [run]
    return words


def idf(bags: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the inverse document frequency per bucket, float32 (size,): log((1 + n) / (1 + df)) + 1 for n bags."""
    count, with_it = 0, np.zeros((), np.int64)
    for bag in bags:  # one by one: all of them together are 8 kB per encounter
        count, with_it = count + 1, with_it + (bag > 0)
    return np.asarray(np.log((1 + count) / (1 + with_it)) + 1, np.float32)
