"""Label Studio's code of brush strokes, as @thi.ng/rle-pack writes it, for masks that tests draw."""

from itertools import groupby

import numpy as np


def packed(mask: np.ndarray, literal: bool = False) -> bytes:
    """Return the code of a mask, (H, W) uint8 {0, 1}: white where it is marked; `literal` uses no runs."""
    values = np.repeat(mask.ravel() * 255, 4).tolist()
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{length - 1:04b}" for length in (3, 4, 8, 16))
    groups = [values[start : start + 200] for start in range(0, len(values), 200)]
    if not literal:
        groups = [list(same) for _, same in groupby(values)]
    for group in groups:
        numbers = "".join(f"{value:08b}" for value in (group if literal else group[:1]))
        bits += f"{int(not literal)}{3:02b}{len(group) - 1:016b}{numbers}"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
