"""`magic search`: the cases of an index that are most like a photo and words, as lines, page, CSV and TREC run.

No run.json: a query is a patient's, and what a result depends on is in its provenance.
"""

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from magic_cli.data.index import open_index
from magic_cli.data.index.where import Where, parse_where
from magic_cli.errors import ConfigError, DataError, problem
from magic_cli.io.files import StrPath, refuse_existing, sha256, write_text
from magic_cli.io.ownership import is_same
from magic_cli.io.progress import log
from magic_cli.io.regular_file import open_regular
from magic_cli.report.search import page, serve
from magic_cli.report.search.result import SearchResult
from magic_cli.training.runtime import RuntimeOptions

MOST_CASES = 1000

# what a file of each kind is called, and how one that this program wrote begins; no hits make an empty TREC run
_OURS = {
    "html": (
        "page",
        re.compile(
            rb'<!doctype html>.*<meta name="generator" content="magic .*'
            rb"<title>(?:The [\d,]+ cases most like this one|No case to compare with)</title>",
            re.DOTALL,
        ),
    ),
    "csv": ("table", re.compile(rb"rank,id,case,label,")),
    "trec": ("TREC run", re.compile(rb"query Q0 \S+ 1 \d+ magic\n|\Z")),
}


class Searcher(Protocol):
    """An index with the model that made it (open_searcher)."""

    def search(
        self, image: Path | bytes | None, text: str, attributes: Mapping[str, str], k: int, where: Where | None
    ) -> SearchResult:
        """Return the `k` cases that are most like a query, of those that `where` lets through.

        Args:
            image: a photo, as a file or its bytes; its EXIF orientation is applied.
            text: words about it; "" for none.
            attributes: what is stated of it, by name.
            k: how many cases, from 1.
            where: None: all.
        """
        ...


@dataclass(frozen=True)
class SearchOptions:
    """Options of `search`, with the defaults of the command line.

    Attributes:
        image: the query's photo. text: words about it. attributes: "name=value" of what is stated of it.
        index: what `magic index` made: a folder, or an address.
        k: how many cases, 1 to 1000.
        where: which cases, such as "age >= 40 and site in ('back', 'chest')"; "": all.
        beta: weight of local similarity, 0 to 1; None: the index's own.
        html, csv, trec: files to write.
        ckpt: the model that built the index; None: the one that its folder keeps, or that of a run in runs/.
        weights: folder of Hugging Face checkpoints; None: as in training.
        overwrite: replace older files of the same kind.
        runtime: device.
    """

    image: StrPath | None = None
    text: str = ""
    attributes: tuple[str, ...] = ()
    index: StrPath = "index"
    k: int = 10
    where: str = ""
    beta: float | None = None
    html: StrPath | None = None
    csv: StrPath | None = None
    trec: StrPath | None = None
    ckpt: StrPath | None = None
    weights: StrPath | None = None
    overwrite: bool = False
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        """Refuse what the command line would refuse."""
        if not (isinstance(self.k, int) and 1 <= self.k <= MOST_CASES):
            raise ConfigError(problem("-k", str(self.k), f"a whole number from 1 to {MOST_CASES}", "give another one"))
        if self.beta is not None and not 0 <= self.beta <= 1:
            raise ConfigError(problem("--beta", str(self.beta), "0 to 1", "leave it out for the index's own"))
        for kind, path in self.files.items():
            if self.image is not None and is_same(path, Path(self.image)):
                raise ConfigError(problem(f"--{kind}", "the photo itself", "a file to write", "give another name"))
            if os.fspath(self.index) and is_same(path.parent, Path(self.index)):
                got = "a file in the folder of the index"
                raise ConfigError(problem(f"--{kind}", got, "one elsewhere", "give another name"))

    @property
    def stated(self) -> Mapping[str, str]:
        """The attributes by name.

        Raises:
            ConfigError: one is no name=value, or a name is given twice.
        """
        found: dict[str, str] = {}
        for number, pair in enumerate(self.attributes, 1):
            name, sign, value = (part.strip() for part in pair.partition("="))
            if not (name and sign and value) or name in found:
                got = f"attribute {number} {'again' if name in found else 'without a name or a value'}"
                raise ConfigError(problem("--attr", got, "name=value, each name once", "--attr streaks=present"))
            found[name] = value
        return found

    @property
    def files(self) -> Mapping[str, Path]:
        """The files to write, by kind."""
        given = {"html": self.html, "csv": self.csv, "trec": self.trec}
        return {kind: Path(path) for kind, path in given.items() if path is not None}


@dataclass(frozen=True)
class SearchOutcome:
    """The result of a search, and the files that it was written to, by kind."""

    result: SearchResult
    written: Mapping[str, Path]

    def to_json(self) -> dict[str, object]:
        """Return schemas/search.schema.json without its header."""
        return {**self.result.to_json(), "written": [str(path) for path in self.written.values()]}

    def lines(self) -> list[str]:
        """Return the result for the terminal; the last line says what to do next."""
        following = f"open {self.written['html']}" if "html" in self.written else "the same with --html search.html"
        return [*self.result.lines(), *(f"wrote {path}" for path in self.written.values()), f"next: {following}"]


_DEFAULTS = SearchOptions()


def search(options: SearchOptions = _DEFAULTS, searcher: Searcher | None = None) -> SearchOutcome:
    """Return the cases that are most like a query, and write the files that are asked for, each atomically.

    Args:
        options: the query, the index and the files.
        searcher: None: that of `options.index`.

    Raises:
        ConfigError: an option is invalid, or there is no query. DataError: a file is there already, is of another
            kind or cannot be written, or the photo cannot be read. MagicError: any other of its kinds.
    """
    stated, where = options.stated, parse_where(options.where) if options.where else None
    if options.image is None and not options.text.strip() and not stated:
        remedy = "give --image FILE, --text WORDS or --attr name=value"
        raise ConfigError(problem("magic search", "no query", "a photo, words or attributes", remedy))
    photo = None if options.image is None else Path(options.image)
    if photo is not None and not photo.is_file():
        got = "a folder" if photo.is_dir() else "no such file"
        raise DataError(problem(photo, got, "a photo", "check --image"))
    files = options.files
    if len(set(map(Path.absolute, files.values()))) < len(files):
        raise ConfigError(problem("--html, --csv, --trec", "one file twice", "a file each", "give other names"))
    for kind, path in files.items():
        _check_place(path, kind, options.overwrite)
    used = open_searcher(options) if searcher is None else searcher
    result = used.search(photo, options.text.strip(), stated, options.k, where)
    result = replace(result, provenance={**result.provenance, "command": command_line(options)})
    texts: dict[str, Callable[[], str]] = {"html": partial(page.html, result), "csv": result.csv, "trec": result.trec}
    for kind, path in files.items():
        write_text(path, texts[kind]())
    return SearchOutcome(result, files)


def _check_place(path: Path, kind: str, overwrite: bool) -> None:
    """Refuse a place for a file that is taken; what is no older file of this kind is never replaced."""
    name, begins = _OURS[kind]
    if path.is_dir():
        raise DataError(problem(path, "a folder", f"a new file for --{kind}", "give another name"))
    if os.path.lexists(path) and not begins.match(_head(path)):
        raise DataError(problem(path, "a file of another kind", f"an older {name}", "give another name"))
    refuse_existing(path, overwrite, f"--{kind}")


def _head(path: Path) -> bytes:
    """Return the first bytes of a file; of one that cannot be read, such as a device, some that are of no kind."""
    try:
        with open_regular(path) as file:
            return file.read(2000)
    except OSError:
        return b"?"


def serve_page(options: SearchOptions = _DEFAULTS, searcher: Searcher | None = None, port: int = 0) -> None:
    """Serve a page to search with on this computer alone, until Ctrl-C; `options` give the index and what is fixed.

    Raises:
        ConfigError: an option is invalid. DataError: the port cannot be had. MagicError: the index cannot be used.
    """
    stated, where = options.stated, parse_where(options.where) if options.where else None
    used = open_searcher(options) if searcher is None else searcher

    def answer(image: bytes | None, text: str, k: int) -> SearchResult:
        return used.search(image, text, stated, k, where)

    serve.serve(answer, options.k, port, log)


def open_searcher(options: SearchOptions) -> Searcher:
    """Return the index with the model that made it.

    Raises:
        ConfigError: there is no model that reads it, or an attribute of the query is unknown. DataError: there is no
            index, or another model built it.
    """
    from magic_cli.commands.cases.build import encoder_of, folder_of, model_of
    from magic_cli.commands.cases.searcher import IndexSearcher, check_stated

    folder = folder_of(options.index)
    index = open_index(os.fspath(options.index) if folder is None else folder)
    check_stated(index, options.stated)
    path = model_of(options.index, index.info, options.ckpt)
    index.check_model(sha256(path))
    encoder = encoder_of(path, None, options.weights, options.runtime)[0]
    return IndexSearcher(index, encoder, folder, options.beta)


def command_line(options: SearchOptions) -> str:
    """Return the command line without names of files and places, which could tell who a patient is.

    >>> command_line(SearchOptions(image="jane-doe.jpg", text="dark spot", k=5))
    "magic search --image PHOTO --text 'dark spot' -k 5 --index INDEX"
    """
    words = ["--image", "PHOTO"] if options.image is not None else []
    words += ["--text", options.text] if options.text else []
    words += [word for pair in options.attributes for word in ("--attr", pair)]
    words += ["-k", str(options.k), "--index", "INDEX"]
    words += ["--where", options.where] if options.where else []
    words += ["--beta", f"{options.beta:g}"] if options.beta is not None else []
    words += [word for kind in options.files for word in (f"--{kind}", "FILE")]
    return shlex.join(["magic", "search", *words])
