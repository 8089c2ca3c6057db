"""What the neighbours of a query are: their classes beside those of the gallery, and how each diagnosis is known."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from magic_cli.metrics.binomial import clopper_pearson

MORE, LESS, UNCLEAR = "more than in the gallery", "less than in the gallery", "no clear difference"

CONFIRMED, UNCONFIRMED, UNSTATED = "biopsy-confirmed", "not confirmed by biopsy", "confirmation not stated"

# fields of public datasets that say how a diagnosis is known: ISIC, HAM10000, PAD-UFES-20, MILK10k
PROOFS = (
    *("biopsy", "biopsy_confirmed", "biopsied", "biopsed", "concomitant_biopsy"),
    *("diagnosis_confirm_type", "dx_type", "confirmation"),
)

_YES = frozenset({"yes", "true", "1", "1.0", "y"})

_BY_TISSUE = ("histo", "biops", "patholog", "excis")


@dataclass(frozen=True, slots=True)
class ClassVote:
    """A class among the neighbours and in the gallery.

    Attributes:
        name: the class.
        count, total: neighbours of the class, and all that vote.
        low, high: the 95 % interval of its share, exact binomial (Clopper-Pearson). Neighbours are not independent
            draws, so it is a guide.
        prior, gallery: cases of the class in the gallery, and all of its cases.
    """

    name: str
    count: int
    total: int
    low: float
    high: float
    prior: int
    gallery: int

    @property
    def share(self) -> float:
        """Share of the neighbours, in [0, 1]; 0 without any."""
        return self.count / self.total if self.total else 0.0

    @property
    def prior_share(self) -> float:
        """Share of the gallery, in [0, 1]."""
        return self.prior / self.gallery if self.gallery else 0.0

    @property
    def verdict(self) -> str:
        """How the neighbours' share compares with the gallery's, judged by the interval."""
        return MORE if self.low > self.prior_share else LESS if self.high < self.prior_share else UNCLEAR

    def to_json(self) -> dict[str, object]:
        """Return an item of "votes" of schemas/search.schema.json."""
        numbers = {"count": self.count, "share": self.share, "low": self.low, "high": self.high}
        return {"label": self.name, **numbers, "prior": self.prior_share, "verdict": self.verdict}


def votes(labels: Iterable[str], prior: Mapping[str, int]) -> tuple[ClassVote, ...]:
    """Return every class of the neighbours and of the gallery: the most voted first, then the most frequent.

    Neighbours whose class is not stated ("") have no vote, as such cases are not counted in the gallery.
    """
    counts = Counter(filter(None, labels))
    total, gallery = sum(counts.values()), sum(prior.values())
    names = sorted({*counts, *prior}, key=lambda name: (-counts[name], -prior.get(name, 0), name))
    return tuple(
        ClassVote(name, counts[name], total, *clopper_pearson(counts[name], total), prior.get(name, 0), gallery)
        for name in names
    )


def confirmation(fields: Mapping[str, str]) -> str:
    """Return how a diagnosis is known, from the fields of its case: by biopsy, not by biopsy, or not stated.

    >>> confirmation({"dx_type": "histo"}), confirmation({"biopsed": "False"}), confirmation({"sex": "male"})
    ('biopsy-confirmed', 'not confirmed by biopsy', 'confirmation not stated')
    """
    values = [fields[name].strip().casefold() for name in PROOFS if fields.get(name, "").strip()]
    if any(value in _YES or value.startswith(_BY_TISSUE) for value in values):
        return CONFIRMED
    return UNCONFIRMED if values else UNSTATED
