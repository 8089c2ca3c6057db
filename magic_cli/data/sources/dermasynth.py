"""DermaSynth: questions and answers about photos of five open collections, written by a model."""

from collections.abc import Iterator, Sequence

from magic_cli.data.sources.files import SourceFiles, split_of
from magic_cli.data.sources.lfs import is_pointer
from magic_cli.data.sources.mm_skin import is_of_mm_skin
from magic_cli.data.sources.qa_pairs import PhotoQuestions, add_conversations, is_conversations
from magic_cli.data.sources.source import RawCase, RawDataset, ReadOptions, Source
from magic_cli.errors import DataError, problem


class DermaSynth(Source):
    """JSON of conversations about photos of DERM12345, BCN20000, PAD-UFES-20, SCIN and HIBA."""

    name = "dermasynth"
    title = "DermaSynth, questions and answers about dermatology photos"
    origin = "https://huggingface.co/datasets/abdurrahimyilmaz/DermaSynth"
    licence = "as its card states; photos under the licences of their collections"
    expected = "JSON or JSON lines with image and conversations (from, value); the folders of photos"

    def find(self, files: SourceFiles) -> str:
        """Return the first JSON file of conversations, or a Git LFS pointer of its name."""
        return next(iter(_tables(files)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return a case per photo, with all questions about it.

        Raises:
            DataError: no such file, a Git LFS pointer, or no JSON.
        """
        tables = _tables(files)
        if not tables:
            raise DataError(problem(files.root, "no JSON of conversations", self.expected, "check --data and --source"))
        inputs = files.digests(*tables)
        return RawDataset(self.name, files.root, _cases(tables, files), files.issues, inputs)


SOURCE = DermaSynth()


def _tables(files: SourceFiles) -> list[str]:
    named = set(files.named("*dermasynth*.json", "*dermasynth*.jsonl", "*derma_synth*.json", "*derma_synth*.jsonl"))
    return [
        path
        for path in files.tables
        if not is_of_mm_skin(path, files) and (is_conversations(path) or (path in named and is_pointer(path)))
    ]


def _cases(tables: Sequence[str], files: SourceFiles) -> Iterator[RawCase]:
    questions = PhotoQuestions(files, "DermaSynth: as its card states")
    for path in tables:
        add_conversations(path, files, split_of(path), questions)
    yield from questions.cases()
