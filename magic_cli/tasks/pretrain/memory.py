"""What a training step compares and what it takes in memory: arithmetic on sizes, in bytes."""

from dataclasses import dataclass

_NUMBER = 4  # bytes of a float32

_STATES = 4  # of a weight that learns: itself, its gradient, Adam's two means

_COPIES = 3
"""Memory of a loss over that of its logits: the logits, what is left of them without masked places, and gradients.

Measured on a CPU, 1,024 photos of 11 texts: 3.1 times; of a chunk, which is computed again in backward, 6 times.
"""


@dataclass(frozen=True)
class Transformer:
    """An encoder by its tokens per item (at most), its width and its layers."""

    tokens: int
    width: int
    layers: int

    def activations(self, half: bool, recomputed: bool) -> int:
        """Return what backward keeps of an item: 34 bytes per token, channel and layer in half precision.

        That is without attention matrices, which fused kernels do not keep (Korthikanti et al., Reducing activation
        recomputation in large transformer models, 2022). With `recomputed`, only the input of each layer is kept.
        """
        per_channel = 2 if recomputed else 34
        return self.tokens * self.width * self.layers * per_channel * (1 if half else 2)


@dataclass(frozen=True)
class Comparison:
    """The sizes of a whole batch, and of the vectors that are compared.

    Attributes:
        photos: N, of all processes together.
        texts: C, places of texts per photo.
        subtexts: K of them for the local loss, 0 without it.
        dim: d of the joint space.
        processes: that share the photos evenly.
        patches: P per photo for the local loss, 0 without it.
    """

    photos: int
    texts: int
    subtexts: int
    dim: int
    processes: int = 1
    patches: int = 0

    @property
    def own(self) -> int:
        """Photos of one process."""
        return -(-self.photos // self.processes)

    @property
    def text_logits(self) -> int:
        """Bytes of a process's logits between texts and photos, (N / W) x N C, in one direction."""
        return self.own * self.photos * self.texts * _NUMBER

    @property
    def local_logits(self) -> int:
        """Bytes of a process's logits between its subtexts and the knowledge-enhanced vectors, (N / W) K x N."""
        return self.own * self.subtexts * self.photos * _NUMBER

    @property
    def gathered(self) -> int:
        """Bytes of the vectors of all processes: v, t, and e^k for the local loss."""
        return self.photos * (1 + self.texts + (self.subtexts > 0)) * self.dim * _NUMBER

    @property
    def local_vectors(self) -> int:
        """Bytes of the vectors of a process's own patches; they are never gathered."""
        return self.own * self.patches * self.dim * _NUMBER

    def loss(self, chunk_rows: int) -> int:
        """Return the bytes that the loss takes beside the vectors, computed `chunk_rows` rows at a time."""
        row, subtext = self.photos * self.texts * _NUMBER, self.photos * _NUMBER
        all_rows = ((self.own, row), (self.own * self.texts, subtext), (self.own * self.subtexts, subtext))
        whole = sum(rows * size for rows, size in all_rows if rows <= chunk_rows)
        chunk = max((chunk_rows * size for rows, size in all_rows if rows > chunk_rows), default=0)
        return _COPIES * whole + 2 * _COPIES * chunk


def states(learning: int, frozen: int, average: bool = False) -> int:
    """Return the bytes of weights in float32, of the gradients and moments of those that learn, and of an average."""
    return _NUMBER * ((_STATES + average) * learning + frozen)


def size(count: int) -> str:
    """Return a number of bytes for people, in powers of ten.

    >>> size(2_394_000_000), size(55_000_000), size(12_000)
    ('2.4 GB', '55 MB', '0.01 MB')
    """
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:.{0 if count >= 1e6 else 2}f} MB"
