"""What retrieval is scored against: the class of every photo, who asks, and which photos are ranked."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from magic_cli.data.gold import TaskGold
from magic_cli.records import Sample

QUERY = "query "
"""Before the id of a query in `labels` where queries and photos are apart."""

PROTOCOLS = {
    "train": "protocol train: queries are ranked against split train",
    "loo": "protocol loo: queries are ranked against their own split, their own group left out",
    "qrels": "protocol qrels: all that is judged or ranked is the gallery, of every query",
}
"""How queries and gallery may be chosen, for people."""


@dataclass(frozen=True)
class RetrievalGold(TaskGold):
    """The gold of queries and of the gallery that they rank, by image id.

    A photo of the gallery is a positive of a query if its class is the query's. A query never ranks its own photo, nor
    another of its group: one patient, lesion, or cluster of duplicates.

    Attributes:
        labels: class of each photo, of queries and of the gallery.
        groups: what must neither be ranked by its own members nor resampled apart; the keys are those of `labels`.
        queries: ids of the photos that ask, in order.
        gallery: ids of the photos that are ranked, in order; some may be queries, too.
        attributes: what is known of each photo in words, by name: for graded relevance and for baselines.
        samples: the gallery as samples, for a model to encode; () where predictions are read from files.
        protocol: how queries and gallery were chosen, for people: "train" (the gallery is split train) or "loo"
            (leave one out: the queries' own split); "qrels": judgements of a user, by which all may be ranked.
        classes: the attribute that is the class of a case; "": its diagnosis.
        relevant: relevance of photos to each query, above 0, where it is given in place of classes; queries and photos
            are then apart, even if they have the same ids.
        notes: remarks for the reader of the scores.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    queries: tuple[str, ...] = ()
    gallery: tuple[str, ...] = ()
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    protocol: str = "train"
    classes: str = ""
    relevant: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.queries)

    def label_of(self, query: str) -> str:
        """Return the class of a query, "" without one."""
        return self.labels.get(QUERY + query if self.relevant else query, "")

    def only(self, ids: Collection[str]) -> Self:
        """Return the gold of the queries among these photos; unless one is left out at a time, they leave the gallery.

        So a fold that is held out of split train asks, and the other folds are ranked.
        """
        wanted = set(ids)
        queries = tuple(query for query in self.queries if query in wanted)
        if self.protocol == "loo":
            return replace(self, queries=queries)
        gallery = tuple(photo for photo in self.gallery if photo not in wanted)
        samples = tuple(sample for sample in self.samples if sample.id not in wanted)
        return replace(self, queries=queries, gallery=gallery, samples=samples)
