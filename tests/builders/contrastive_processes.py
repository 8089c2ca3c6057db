"""Losses of one batch that several processes share, for test_gather.py: towers that all have, and photos that each has.

Processes are spawned once, and go through all cases.
"""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from contrastive_pairs import drawn_pairs, reordered
from torch import Tensor
from torch.nn import functional as F

from magic_cli.models.contrastive import ContrastiveOptions, PairFeatures, contrastive_loss
from magic_cli.models.gather import ALONE, Gather

WORLD = 2
MKCL = ContrastiveOptions()
OPTIONS = {
    "mkcl": MKCL,
    "all": replace(MKCL, denominator="all", weighting="softmax"),
    "paper": replace(MKCL, denominator="image", weighting="none"),
    "clip": ContrastiveOptions("infonce", local_weight=0),
    "soft": ContrastiveOptions("soft"),
    "dhn": ContrastiveOptions("dhn"),
    "siglip": ContrastiveOptions("siglip", local_weight=0),
    "multi_positive": ContrastiveOptions("multi_positive"),
    "ignore": replace(MKCL, same_text="ignore"),
    "positive": replace(MKCL, same_text="positive"),
    "max": replace(MKCL, local_pool="max", same_text="positive"),
    "xattn": replace(MKCL, local_pool="xattn", same_text="ignore"),
    "ontology": replace(MKCL, ontology_beta=0.3),
    "chunks": replace(MKCL, chunk_rows=4),
}
SHARES = {"even": (3, 3), "uneven": (4, 2), "one has none": (0, 6), "one has no texts": (5, 1)}
CASES = [(name, "uneven") for name in OPTIONS]
CASES += [(name, share) for name in ("mkcl", "soft", "max") for share in SHARES if share != "uneven"]
PATHS = torch.tensor([[7, 3, 4], [7, 5, 0], [0, 0, 0], [-2, 3, 0], [7, 5, 0], [7, 3, 4]])

Parameters = dict[str, Tensor]


def towers(seed: int = 0) -> Parameters:
    random = torch.Generator().manual_seed(seed)
    shapes = {"image": (7, 5), "text": (7, 5), "patch": (7, 5)}
    drawn = {name: torch.randn(*shape, generator=random, dtype=torch.float64) for name, shape in shapes.items()}
    drawn |= {"log_scale": torch.tensor(1.5, dtype=torch.float64), "bias": torch.tensor(-2.0, dtype=torch.float64)}
    return {name: value.requires_grad_() for name, value in drawn.items()}


def batch(share: str) -> PairFeatures:
    """Six photos with inputs of towers in the place of vectors: 0 and 3 of one case, 1 and 5 with a text in common."""
    features = drawn_pairs(photos=6)
    features.case_ids[3], features.text_ids[5, 2] = 0, features.text_ids[1, 2]
    if share == "one has no texts":
        features.mask[5] = False
    concepts = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1], [0, 0, 1], [1, 0, 0]], dtype=torch.float64)
    return replace(features, concepts=concepts, paths=PATHS)


def gradients(options: ContrastiveOptions, inputs: PairFeatures, gather: Gather = ALONE) -> Parameters:
    """Return the loss of a process, and its gradients of the towers."""
    parameters = towers()
    assert inputs.patches is not None
    features = replace(
        inputs,
        images=F.normalize(inputs.images @ parameters["image"], dim=-1),
        texts=F.normalize(inputs.texts @ parameters["text"], dim=-1),
        patches=F.normalize(inputs.patches @ parameters["patch"], dim=-1),
    )
    scale, bias = parameters["log_scale"].exp(), parameters["bias"]
    loss = contrastive_loss(features, scale, options, gather, bias).total
    loss.backward()
    found = {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in parameters.items()}
    return found | {"loss": loss.detach()}


def averaged(found: Parameters) -> Parameters:
    """Return the mean over processes, as DistributedDataParallel takes it of gradients."""
    for value in found.values():
        dist.all_reduce(value)
    return {name: value / WORLD for name, value in found.items()}


def gathered() -> dict[str, Tensor]:
    """Gather rows of several dtypes and shapes, with as many rows as ranks, and a gradient that depends on the rank."""
    rank = dist.get_rank()
    gather = Gather(rank, WORLD)
    rows = torch.full((rank, 2), float(rank), requires_grad=True)
    whole = gather(rows)
    (whole * (rank + 1)).sum().backward()
    assert rows.grad is not None
    return {
        "rows": whole.detach(),
        "gradient": rows.grad,
        "bool": gather(torch.tensor([True, False][rank:])),
        "bfloat16": gather(torch.full((1, 3), rank + 0.5, dtype=torch.bfloat16)),
        "known": replace(gather, rows=(1, 2))(torch.arange(rank + 1)),
        "total": gather.total(torch.tensor(rank + 1.5, requires_grad=True)),
    }


def process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    results: dict[tuple[str, str] | str, Parameters] = {"gather": gathered()}
    for name, share in CASES:
        rows = range(6)[: SHARES[share][0]] if rank == 0 else range(6)[SHARES[share][0] :]
        inputs = reordered(batch(share), torch.tensor(list(rows), dtype=torch.long))
        results[name, share] = averaged(gradients(OPTIONS[name], inputs, Gather(rank, WORLD)))
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


def run(folder: Path) -> list[dict[tuple[str, str] | str, Parameters]]:
    """Return what each process found for each case."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=process, args=(rank, folder)) for rank in range(WORLD)]
    try:
        for each in processes:
            each.start()
        for each in processes:
            each.join(timeout=120)
            assert each.exitcode == 0
    finally:
        for each in processes:
            each.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]
