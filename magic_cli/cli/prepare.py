"""`magic prepare`: its options, and how they become those of commands/prepare.py."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from magic_cli.cli import options as opt
from magic_cli.cli.output import emit

RawData = Annotated[Path | None, typer.Option("--data", help="The dataset's folder, unpacked and unchanged.")]

Source = Annotated[str, typer.Option("--source", metavar="NAME", help="Which dataset it is, where several match.")]

_MAP = "Columns of a table: image, label, text, group, split, mask, id, patient, age, ...; repeatable."

ColumnsOf = Annotated[list[str] | None, typer.Option("--map", metavar="KEY=COLUMN,...", help=_MAP)]

_JOIN = "A second table with facts about photos or cases, matched by its first column."

Join = Annotated[Path | None, typer.Option("--join", metavar="FILE", help=_JOIN)]

Merge = Annotated[
    Literal["or", "majority", "intersection", "each"], typer.Option(help="How to merge annotators' masks.")
]

_PROMPT = "Text per photo; p0 to p9: none, the class, and more of the gold answers at each step, for seg alone."

Prompt = Annotated[
    Literal["qa", "query", "answer", "fixed", "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"],
    typer.Option(metavar="qa|query|answer|fixed|p0...p9", help=_PROMPT),
]

ListSources = Annotated[bool, typer.Option("--list-sources", help="List the datasets that can be read.")]

_VALID = "Share of the cases for valid, where the data has no splits."

ValidShare = Annotated[float, typer.Option("--valid", min=0, max=1, help=_VALID)]

TestShare = Annotated[float, typer.Option("--test", min=0, max=1, help="Share of the cases for test.")]

_BY = "What is never divided between splits; default: patient, else lesion, else photo."

SplitBy = Annotated[str, typer.Option("--split-by", metavar="patient|lesion|case|COLUMN", help=_BY)]

SplitSeed = Annotated[int, typer.Option("--seed", min=0, help="Random seed of the splits.")]

_KNOWLEDGE = "Make disease, concept and sentence texts; default: unless the challenge's, or the source has its own."

Knowledge = Annotated[bool | None, typer.Option("--knowledge/--no-knowledge", help=_KNOWLEDGE)]

OntologyFile = Annotated[
    Path | None, typer.Option("--ontology", help="Classes of diseases: JSON, or CSV child,parent.")
]

_ANSWERS = "Disease and concept terms that a language model found elsewhere, JSON lines."

LlmCacheFile = Annotated[Path | None, typer.Option("--llm-cache", help=_ANSWERS)]

Overflow = Annotated[Literal["drop", "merge"], typer.Option(help="Sentences beyond the eighth.")]

_FROM = "What queries are made from: attributes (default), captions up to where they tell the class, or both."

QueryFrom = Annotated[str, typer.Option(metavar="attributes|caption|both", help=_FROM)]

_NAMES = "Attributes that queries tell, such as age,sex,site; default: all that tell no class."

QueryAttributes = Annotated[str, typer.Option(metavar="NAME[,NAME]", help=_NAMES)]

_CAPTIONS = "For cases with a label and no text: how many captions are made of the label."

LabelCaptions = Annotated[int, typer.Option("--label-captions", min=0, max=8, help=_CAPTIONS)]

_DUPLICATES = "Duplicate photos: never divided between splits and folds (group), left out (drop), or only listed."

DuplicatePhotos = Annotated[Literal["keep", "drop", "group"], typer.Option("--duplicates", help=_DUPLICATES)]

_SHARDS = "Also write the pairs of photos and texts into N tars (WebDataset), in shards/ of --out."

Shards = Annotated[int | None, typer.Option("--shards", min=1, metavar="N", help=_SHARDS)]


def prepare(
    data: RawData = None,
    out: Annotated[Path, typer.Option(help="Folder for the prepared dataset.")] = Path("prepared"),
    source: Source = "",
    mapping: ColumnsOf = None,
    join: Join = None,
    list_sources: ListSources = False,
    merge: Merge = "or",
    prompt: Prompt = "qa",
    responses: Annotated[bool, typer.Option("--responses/--no-responses", help="Use the clinicians' answers.")] = True,
    valid: ValidShare = 0.15,
    test: TestShare = 0.15,
    split_by: SplitBy = "",
    split_seed: SplitSeed = 0,
    knowledge: Knowledge = None,
    ontology: OntologyFile = None,
    llm_cache: LlmCacheFile = None,
    overflow: Overflow = "drop",
    query_from: QueryFrom = "",
    label_captions: LabelCaptions = 0,
    query_attributes: QueryAttributes = "",
    duplicates: DuplicatePhotos = "group",
    shards: Shards = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on unusable data instead of skipping it.")] = False,
    overwrite: opt.Overwrite = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Turn a raw dataset, the challenge's or another one, into one clean, checked dataset.

    Example: `magic prepare --data DermaVQA/`, `magic prepare --data mine/ --map image=file,label=dx,group=patient`
    """
    if list_sources or data is None:
        _list_sources(list_sources, as_json)
        return
    from magic_cli.commands import prepare as module
    from magic_cli.data.preparation.case_texts import TextOptions

    options = module.PrepareOptions(
        merge=merge,
        prompt=prompt,
        responses=responses,
        strict=strict,
        overwrite=overwrite,
        dry_run=dry_run,
        valid=valid,
        test=test,
        split_by=split_by,
        seed=split_seed,
        source=source,
        mapping=tuple(mapping or ()),
        join=join,
        texts=TextOptions(
            knowledge, ontology, llm_cache, overflow, query_from, query_attributes.split(","), label_captions
        ),
        duplicates=duplicates,
        shards=shards or 0,
    )
    emit(as_json, "prepare", module.prepare(data, out, options))


def _list_sources(is_asked: bool, as_json: bool) -> None:
    """Print the datasets that can be read; without `is_asked`, `--data` is missing."""
    if not is_asked:
        raise typer.BadParameter("--data FOLDER is missing (or --list-sources)")
    from magic_cli.commands.list_sources import list_sources

    emit(as_json, "prepare", list_sources())
