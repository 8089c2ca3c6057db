"""Does a concept bottleneck hold where an attribute misleads? Two classes are trained where the attribute tells them.

KnoBo (Yang et al., A Textbook Remedy for Domain Shifts, NeurIPS 2024) trains on a split in which an attribute goes with
the class and tests where it goes against it. Here: of split train the photos of the first class with the attribute and
those of the second without it; of the other splits once the same ("as trained"), and once the reverse. AUROC of the
first class with 95 % intervals over groups, and paired differences to the joint vectors, from which concepts are read.

    python tests/benchmarks/confounded.py runs/pretrain/best.pt prepared-isic --classes melanoma nevus --by sex=male
    python tests/benchmarks/confounded.py runs/pretrain/best.pt prepared-isic --classes melanoma nevus --by "age>=50"
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.pair_gold import prepared_pair_gold
from magic_cli.data.pairs import pair_samples
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.metrics.classification import auroc
from magic_cli.models.logistic import best_strength, linear_model
from magic_cli.records import Sample
from magic_cli.tasks.pretrain.model import sparse_units
from magic_cli.tasks.pretrain.model.concepts import known_concepts
from magic_cli.tasks.pretrain.model.linear_classes import Reader
from magic_cli.training.runtime import RuntimeOptions

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

DRAWS = 500


def has(sample: Sample, condition: str) -> bool | None:
    """Return whether a sample's case meets a condition, sex=male or age>=50; None where that is unknown."""
    found = re.fullmatch(r"(\w+)(=|>=)(.+)", condition)
    assert found, condition
    name, sign, value = found.groups()
    own = sample.case.attributes.get(name, "")
    if not own:
        return None
    return own == value if sign == "=" else float(own) >= float(value)


def photos(prepared: Prepared, splits: Sequence[str], classes: Sequence[str], by: str):
    """Return samples of two classes whose attribute is known, whether each is of the first, has it, and its group."""
    rows = []
    for split in splits:
        gold = prepared_pair_gold(prepared, split)
        for sample in pair_samples(prepared, split, needs_text=False):
            attribute = has(sample, by)
            if gold.classes.get(sample.id) in classes and attribute is not None:
                is_first = gold.classes[sample.id] == classes[0]
                rows.append((sample, is_first, attribute, gold.groups[sample.id]))
    samples, first, attributes, groups = zip(*rows, strict=True)
    return samples, np.array(first), np.array(attributes), np.array(groups)


def area(scores: Floats, first: Flags) -> float:
    """Return the AUROC of the first class."""
    return float(auroc(scores[:, None], first[:, None], np.ones((len(first), 1), bool))[0])


def resampled(scores: dict[str, Floats], first: Flags, groups: NDArray[np.str_]) -> dict[str, Floats]:
    """Return each system's AUROC on draws of whole groups, the same for all systems."""
    rng = np.random.default_rng(0)
    names = np.unique(groups)
    members = {name: np.flatnonzero(groups == name) for name in names}
    found: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(DRAWS):
        rows = np.concatenate([members[name] for name in rng.choice(names, len(names))])
        for system, values in scores.items():
            found[system].append(area(values[rows], first[rows]))
    return {system: np.array(values) for system, values in found.items()}


def bounds(values: Floats) -> str:
    """Return the 95 % interval of draws."""
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return f"{low:+.3f} to {high:+.3f}" if low < 0 else f"{low:.3f} to {high:.3f}"


def main() -> None:
    """Print AUROC as trained and reversed, of every system."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--classes", nargs=2, required=True)
    parser.add_argument("--by", required=True, help="sex=male, age>=50")
    args = parser.parse_args()
    prepared = open_prepared(args.data)
    train, train_first, train_has, train_groups = photos(prepared, ["train"], args.classes, args.by)
    held, first, attribute, groups = photos(prepared, ["valid", "test"], args.classes, args.by)
    concepts = known_concepts(prepared_pair_gold(prepared, "train").concept_names)
    reader = Reader.of(args.run, concepts, RuntimeOptions().runtime(), None)
    before, after = reader.read(train, True), reader.read(held, True)
    units = sparse_units.fit(before.joint, 256, 16)
    rows = {name: (getattr(before, name), getattr(after, name)) for name in ("concepts", "joint", "encoder")}
    rows["sparse"] = tuple(sparse_units.codes_of(units, part.joint) for part in (before, after))
    for mixed in (False, True):
        kept = np.ones(len(train), bool) if mixed else train_first == train_has
        gold = train_first[kept].astype(np.intp)
        scores = {}
        for name, (mine, others) in rows.items():
            strength = best_strength(mine[kept], gold, train_groups[kept].tolist(), 2, 0)
            _, weight, bias = linear_model(mine[kept], gold, strength)
            logits = others @ weight.T + bias
            scores[name] = logits[:, 1] - logits[:, 0]
        print("all training photos" if mixed else f"{args.by} tells the class", gold.sum(), "of", len(gold))
        for title, chosen in (("as trained", first == attribute), ("reversed", first != attribute)):
            own = {name: values[chosen] for name, values in scores.items()}
            draws = resampled(own, first[chosen], groups[chosen])
            print(f"  {title}: {first[chosen].sum()} of {chosen.sum()} photos are {args.classes[0]}")
            for name, values in own.items():
                difference = area(values, first[chosen]) - area(own["joint"], first[chosen])
                paired = f"{difference:+.3f} ({bounds(draws[name] - draws['joint'])})"
                print(f"    {name:9} {area(values, first[chosen]):.3f} ({bounds(draws[name])})  minus joint {paired}")


if __name__ == "__main__":
    main()
