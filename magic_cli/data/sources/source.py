"""What a raw dataset is to `magic prepare`: a stream of cases with their photos, and an adapter that reads it.

An adapter is one module in data/sources/, with a subclass of `Source`, and its name in `sources.ADAPTERS`. It says
what it recognizes, reads tables row by row, and yields cases; it opens no photo. What comes after is the same for all
datasets: photos and masks are read, duplicates found, groups formed, splits dealt, texts and queries built
(data/preparation/).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.imaging.drawn_masks import DrawnMask
from magic_cli.data.issues import IssueLog
from magic_cli.data.questions import NO_QUESTIONS, QuestionSchema
from magic_cli.data.sources.files import SourceFiles
from magic_cli.records import Case

# Names of attributes that mean the same in every dataset. Adapters write them beside the source's own columns, and
# queries, knowledge texts and subgroups read no others. Values are as the source words them, unless stated.
AGE = "age"  # years, "45" or "45.0"
AGE_BAND = "age_band"  # "40-59"; made from the age where the source has no bands (data/preparation/subgroups.py)
SEX = "sex"  # "male" or "female", in lower case
SITE = "site"  # body site
SKIN_TYPE = "skin_type"  # Fitzpatrick, "1" to "6", or a pair as "12"
SOURCE = "source"  # the collection within a dataset that a case is from
LABEL_PATH = "label_path"  # classes from the widest to the narrowest, "malignant > malignant epidermal > bcc"
CONCEPTS = "concepts"  # what is seen, "Plaque; Scale"; "" if none of those asked for is seen
PATIENT = "patient"
LESION = "lesion"

LONGEST_ATTRIBUTE = 1000  # characters of a value (schemas/case.schema.json)

RAW = "raw"  # role of a text: what the source says about the photo, unchanged


def label_path(levels: Iterable[str | None]) -> str:
    """Return a LABEL_PATH from the widest class to the narrowest: missing levels and repeated ones are left out.

    >>> label_path(["melanoma", "melanoma", "melanoma (in situ)"]), label_path(["benign", None])
    ('melanoma > melanoma (in situ)', 'benign')
    """
    return " > ".join(dict.fromkeys(level for level in levels if level))


@dataclass(frozen=True, slots=True)
class RawPhoto:
    """One photo: a file, or pixels that `magic prepare` writes as PNG.

    `path` is absolute, "" for `pixels`, which returns (H, W, 3) uint8. `masks` maps "ann0", "ann1", ... to an absolute
    path, or to a mask to draw.
    """

    image_id: str
    path: str = ""
    masks: Mapping[str, str | DrawnMask] = field(default_factory=dict)
    pixels: Callable[[], NDArray[np.uint8]] | None = None


@dataclass(frozen=True, slots=True)
class RawCase:
    """One case as its source has it.

    `case.split` is that of the source, "" where it has none; `case.group_id` the patient, else the lesion, "" where
    neither is known. `case.image_ids` are all photos that the source lists, `photos` those that were found. `where` is
    the place of its row, such as "metadata.csv:12".
    """

    case: Case
    photos: tuple[RawPhoto, ...]
    where: str = ""


@dataclass(frozen=True)
class RawDataset:
    """A raw dataset: its tables are found, no photo is opened yet.

    `cases` can be iterated once; rows that cannot be used go to `issues`. `inputs` maps the tables used, by their path
    below `root`, to their SHA-256. `total` is the number of rows, None if it is not known before. `is_challenge`: cases
    come with prompts, groups and splits, and are kept without any photo. `has_knowledge`: the source brings disease and
    concept texts of its own, so that a missing one means that there is none. `asks_in_text`: the raw text is what the
    user wants to ask with, so that it is part of the query. `repeats_ids`: cases of one id are rows about one photo,
    none of them an error; each after the first gets a number behind its id. `archives` are the names of packed files.
    """

    source: str
    root: Path
    cases: Iterable[RawCase]
    issues: IssueLog
    inputs: Mapping[str, str]
    questions: QuestionSchema = NO_QUESTIONS
    total: int | None = None
    is_challenge: bool = False
    has_knowledge: bool = False
    asks_in_text: bool = False
    repeats_ids: bool = False
    archives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a source is read.

    `mapping` maps "image", "label", "text", "group", ... to columns (`--map`); {} without. `join` is the path of a
    second table, "" without. `prompt` and `responses` are those of the challenge.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    join: str = ""
    prompt: str = "qa"
    responses: bool = True


class Source(ABC):
    """An adapter for one kind of dataset.

    Attributes:
        name: the word for `--source`, in lower case with hyphens.
        title: the name for people.
        origin: where it comes from: a URL or a DOI.
        licence: of the dataset, as it states it; a row's own licence goes into `Case.licence`.
        expected: the files that are expected below `--data`, in a few words.
        is_fallback: whether it is asked only where no other adapter recognizes the dataset.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    origin: ClassVar[str]
    licence: ClassVar[str]
    expected: ClassVar[str]
    is_fallback: ClassVar[bool] = False

    @abstractmethod
    def find(self, files: SourceFiles) -> str:
        """Return the path of the file by which the dataset is recognized, "" if it is not there.

        The name of a file alone does not decide where its content can: columns of a table, keys of a JSON object.
        """

    @abstractmethod
    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:
        """Return the dataset, whose cases are read as they are iterated.

        Raises:
            DataError: a table cannot be read at all; what is wrong with a row goes to `files.issues`.
        """
