"""`magic demo`: draws a small dataset in the challenge's layout, then runs the five verbs on it as a user would."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from magic_cli.config import Config, resolve
from magic_cli.data.cases import Case, invent
from magic_cli.data.drawing import Photo, draw_photo, outline
from magic_cli.data.masks import write_mask
from magic_cli.data.staging import check_target, staged
from magic_cli.errors import Interrupted, MagicError
from magic_cli.files import refuse_existing, write_atomic, write_json, write_text
from magic_cli.interrupt import Terminated
from magic_cli.progress import log, track
from magic_cli.questions import QuestionSchema, load_questions

COUNTS = {"train": 40, "valid": 12, "test": 8}
DATA, MARK = "DermaVQA", "drawn-by-magic-demo.txt"
_SIZES = ((256, 336), (320, 256), (288, 288), (240, 320), (336, 264))
_CARE = (0.9, 0.7, 0.5, 0.8)  # of the four annotators; the first draws closest to the true border
_EXTENSIONS = {("train", 2): ".png", ("valid", 1): ".jpeg", ("test", 3): ".png"}  # all others are .jpg
_STDERR = 2  # the descriptor itself: sys.stderr may be an object without one
_GRACE = 60.0  # seconds that an interrupted step has to save its state


@dataclass(frozen=True, slots=True)
class Step:
    """One command line of the demo, without the program's name; `parse` where its stdout is one JSON object."""

    words: tuple[str, ...]
    parse: bool = False


def run(out: Path, preset: str, overwrite: bool, counts: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Draw the dataset into `out`, run every verb there, and return what was made, the scores and the time.

    Raises:
        DataError: `out` is taken and `overwrite` is false, or data that was not drawn lies there.
        ConfigError: no such preset.
        MagicError: a step failed; its own error line is on stderr, its exit code is this error's.
        Interrupted: SIGINT or SIGTERM during a step, which saved what it could.
    """
    refuse_existing(out, overwrite)
    check_target(out / DATA, None, MARK, overwrite)  # real data may lie there
    resolve(Config, preset)  # a misspelt preset is said now, not after the drawing
    start = time.monotonic()
    log(f"drawing skin photos, outlines and questions to {out / DATA} ...")
    with staged(out / DATA) as folder:
        drawn = draw_dataset(folder, counts or COUNTS)
        write_text(folder / MARK, "Drawn by `magic demo`: no photo, text or answer is a patient's.\n")
    log(f"drawn: {drawn['encounters']} encounters, {drawn['images']} photos, {drawn['masks']} masks")
    result: dict[str, Any] = {}
    for step in steps(preset, overwrite):
        log("\n$ magic " + " ".join(step.words))
        result = _call(step, out) or result
    return {
        "out": str(out),
        "drawn": drawn,
        "scores": result,
        "report": str(out / "report" / "report.html"),
        "submission": str(out / "submission.zip"),
        "seconds": round(time.monotonic() - start, 1),
    }


def summary(found: Mapping[str, Any]) -> list[str]:
    """Return the table of scores, what lies where, and the line to type with one's own data."""
    text = ["scores on drawn photos (they show that everything works, not how well on patients):"]
    for report in (r for system in found["scores"].get("systems", ()) for r in system["reports"]):
        text.append(f"  {report['task']}")
        for name, value in report["figures"].items():
            if not name.startswith("number_"):
                text.append(f"    {name:<20} {'undefined' if value is None else f'{value:.3f}'}")
    text.append(f"{found['report']}: open it in a browser")
    text.append(f"{found['submission']}: a checked submission; all of {found['out']}/ took {found['seconds']:.0f} s")
    return [*text, "next, with your own data: magic prepare --data DermaVQA/"]


def steps(preset: str, overwrite: bool) -> tuple[Step, ...]:
    """Return the command lines of the demo, in order; those that write get --overwrite where it is asked for."""
    again = ("--overwrite",) if overwrite else ()
    few = ("--preset", preset, "--set")
    valid = ("--split", "valid", "--out")
    judged = ("--split", "valid", "--run", "runs/seg", "--out", "report", "--json")
    pack = ("--split", "valid", "--seg", "valid/seg", "--cvqa", "valid/cvqa", "--out", "valid.zip")
    return (
        Step(("prepare", "--data", DATA, *again)),
        Step(("train", "seg", *few, "epochs=4", "--set", "views=1", *again)),
        Step(("train", "cvqa", *few, "epochs=15", *again)),
        Step(("predict", "seg", "--ckpt", "best.pt", *valid, "valid/seg", *again)),
        Step(("predict", "cvqa", "--ckpt", "best.pt", *valid, "valid/cvqa", *again)),
        Step(("package", *pack, *again)),
        Step(("score", "valid.zip", "prepared", *judged, *again), parse=True),
        Step(("predict", "seg", "--ckpt", "best.pt", *again)),
        Step(("predict", "cvqa", "--ckpt", "best.pt", *again)),
        Step(("package", "--seg", "predictions/seg", "--cvqa", "predictions/cvqa", *again)),
    )


def _call(step: Step, cwd: Path) -> dict[str, Any] | None:
    """Run one step; its stdout is returned when it is JSON, and goes to stderr with its logs otherwise."""
    command, stdout = [sys.executable, "-m", "magic_cli", *step.words], subprocess.PIPE if step.parse else _STDERR
    safe = os.environ | {"PYTHONSAFEPATH": "1"}  # modules that lie in that folder are not imported
    process = subprocess.Popen(command, cwd=cwd, env=safe, stdin=subprocess.DEVNULL, stdout=stdout, text=True)
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt as interruption:
        if isinstance(interruption, Terminated):  # a Ctrl-C reached the step too; others come to one process
            process.terminate()
        _stop(process)
        raise Interrupted("demo: interrupted; the same line with --overwrite starts again") from None
    if process.returncode:
        raise _failed(step, process.returncode)
    if not step.parse:
        return None
    found: dict[str, Any] = json.loads(output)
    return found


def _stop(process: subprocess.Popen[str]) -> None:
    """Let a step that was told to stop save its state; end it when it takes too long."""
    try:
        process.wait(_GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _failed(step: Step, code: int) -> MagicError:
    if code < 0:  # it could say nothing
        told = f"was ended by signal {-code}{' (out of memory?)' if code == -9 else ''}; --overwrite starts again"
    else:
        told = f"ended with exit code {code}; its own message is above"
    line = f"demo: `magic {' '.join(step.words)}` {told}"
    if code in (130, -2):
        return Interrupted(line)
    error = MagicError(line)
    error.exit_code = code if code > 0 else 1
    return error


def draw_dataset(root: Path, counts: Mapping[str, int], seed: int = 2025) -> dict[str, int]:
    """Write invented encounters in the challenge's layout to `root`; the same seed gives the same files.

    Returns the numbers of encounters, images and masks written. The test split has no masks and no answers.
    """
    codec = load_questions(None)
    write_json(root / "closedquestions_definitions_imageclef2025.json", codec.as_json())
    plan = [(split, index) for split, count in counts.items() for index in range(count)]
    made = {"encounters": len(plan), "images": 0, "masks": 0}
    texts: dict[str, list[dict[str, Any]]] = {split: [] for split in counts}
    answers: dict[str, list[dict[str, Any]]] = {split: [] for split in counts}
    for number, (split, index) in track(list(enumerate(plan, 1)), "drawing"):
        rng = np.random.default_rng((seed, number))
        case, encounter = invent(rng, number), f"ENC{number:05d}"
        names = []
        for photo in range(1, case.photos + 1):
            name = f"IMG_{encounter}_{photo:05d}"
            extension = _EXTENSIONS.get((split, index), ".jpg") if photo == 1 else ".jpg"
            drawn = draw_photo(rng, case.look, case.tone, case.limb, _SIZES[rng.integers(len(_SIZES))])
            _save_photo(root / "images_final" / f"images_{split}" / f"{name}{extension}", drawn)
            made["masks"] += _save_masks(rng, root, split, name, drawn) if split != "test" else 0
            names.append(name + extension)
        made["images"] += len(names)
        texts[split].append(_as_query(case, encounter, names))
        answers[split].append({"encounter_id": encounter} | _as_slots(codec, case))
    for split in counts:
        write_json(root / f"{split}.json", texts[split])
        if split != "test":
            write_json(root / f"{split}_cvqa.json", answers[split])
    return made


def _save_photo(path: Path, photo: Photo) -> None:
    buffer = io.BytesIO()
    image = Image.fromarray(photo.pixels)
    image.save(buffer, "PNG") if path.suffix == ".png" else image.save(buffer, "JPEG", quality=88)

    def write(file: IO[bytes]) -> None:
        file.write(buffer.getvalue())

    write_atomic(path, write)


def _save_masks(rng: np.random.Generator, root: Path, split: str, name: str, photo: Photo) -> int:
    """Write the masks of two to four annotators, three as a rule; return how many."""
    folder = root / "dermavqa-seg-trainvalid" / "dermavqa-segmentations" / split
    chosen = sorted(rng.permutation(4)[: rng.choice((2, 3, 4), p=(0.1, 0.75, 0.15))])
    for annotator in chosen:
        mask = outline(rng, photo.fields, _CARE[annotator])
        write_mask(folder / f"{name}_mask_ann{annotator}.tiff", mask)
    return len(chosen)


def _as_query(case: Case, encounter: str, names: Sequence[str]) -> dict[str, Any]:
    return {
        "encounter_id": encounter,
        "author_id": f"U{int(encounter[3:]) % 37:05d}",
        "image_ids": list(names),
        "query_title_en": case.title,
        "query_content_en": case.content,
        "responses": [
            {"author_id": f"U9{number:04d}", "content_en": text} for number, text in enumerate(case.responses)
        ],
    }


def _as_slots(codec: QuestionSchema, case: Case) -> dict[str, int]:
    sets = codec.empty_sets()
    for parent, texts in case.answers.items():
        sets[parent] = frozenset(codec.index(codec.parents[parent][0], text) for text in texts)
    return codec.to_slots(sets)
