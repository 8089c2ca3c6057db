"""How time and memory grow with the data: every command on a made challenge folder of the real size, and on one of 10.

    OMP_NUM_THREADS=1 python tests/benchmarks/load.py [--sizes 1 3 10] [--work DIR] [--only NAME ...]

Real size: 998 encounters, 2,945 photos, 8,864 masks (64 x 48 pixels, so that what is measured is the number of files
and rows, not decoding). All of it is drawn by seeded code. Each command runs as a process of its own, start-up
included; CPU time is user + system, peak memory that of the process and its children together. The table's last
columns: time and memory at the largest size over those at the smallest; "bend" is the time of a further photo between
the last two sizes over that between the first two: 1 is a straight line.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPLITS = {"train": (842, 2474, 7448), "valid": (56, 157, 472), "test": (100, 314, 944)}  # encounters, photos, masks
PHOTOS = sum(photos for _, photos, _ in SPLITS.values())
HEIGHT, WIDTH, POOL = 48, 64, 512
PAGES = ("prepared/index.html", "report/report.html", "report/report.json", "report/per_item.csv")
WORDS = ("skin", "red", "patch", "itch", "arm", "leg", "months", "weeks", "cream", "dry", "round", "scaly", "fever")
HAN = "皮肤红斑瘙痒手臂几个月药膏干燥圆形"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one command took: seconds, MiB at most, files and MB that it left behind."""

    wall: float
    cpu: float
    peak: float
    files: int
    size: float


def shares(total: int, parts: int, least: int, rng: Any) -> list[int]:
    """Return `parts` whole numbers of at least `least` that add up to `total`, as uneven as dice make them."""
    extra = rng.multinomial(total - least * parts, [1 / parts] * parts)
    return [least + int(number) for number in extra]


def annotators(masks: int, photos: int, rng: Any) -> list[int]:
    """Return how many annotators each photo has: mostly three, some two or four, `masks` in all."""
    found = [masks // photos + (number < masks % photos) for number in range(photos)]
    for _ in range(photos // 10):
        one, other = rng.integers(0, photos, 2)
        if found[one] > 2 and found[other] < 4 and one != other:
            found[one], found[other] = found[one] - 1, found[other] + 1
    return found


def draw(root: Path, size: int) -> None:
    """Write a challenge folder of `size` times the real one, in the raw layout that `magic prepare` reads."""
    import json
    import shutil

    import numpy as np

    from magic_cli.data.questions import FALLBACK, load_questions

    rng, questions, pool = np.random.default_rng(2025), load_questions(None), _masks()
    number = 0
    for split, (encounters, photos, masks) in SPLITS.items():
        folders = [root / f"images_final/images_{split}", root / f"dermavqa-segmentations/{split}"]
        for folder in folders:
            folder.mkdir(parents=True)
        per_photo = iter(annotators(masks * size, photos * size, rng))
        rows, answers = [], []
        for count in shares(photos * size, encounters * size, 1, rng):
            number += 1
            names = [f"IMG_ENC{number:05}_{photo:05}" for photo in range(1, count + 1)]
            for name in names:
                lesion, annotator_count = int(rng.integers(POOL)), next(per_photo)
                (folders[0] / f"{name}.jpg").write_bytes(_photo(lesion, rng))
                for k in range(annotator_count):
                    (folders[1] / f"{name}_mask_ann{k}.tiff").write_bytes(pool[lesion][k])
            rows.append(_encounter(number, names, rng))
            answers.append({"encounter_id": rows[-1]["encounter_id"], **_answers(questions, rng)})
        (root / f"{split}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        if split != "test":
            (root / f"{split}_cvqa.json").write_text(json.dumps(answers), encoding="utf-8")
    shutil.copy(FALLBACK, root / "closedquestions_definitions_imageclef2025.json")


def _lesion(number: int, annotator: int) -> Any:
    import numpy as np

    rng = np.random.default_rng(number)
    centre, radii = rng.uniform(0.35, 0.65, 2), rng.uniform(0.1, 0.3, 2)
    wobble = np.random.default_rng([number, annotator]).normal(0, 0.02, 2)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    (y, x), (a, b) = centre + wobble, radii
    return ((rows / HEIGHT - y) / a) ** 2 + ((columns / WIDTH - x) / b) ** 2 <= 1


def _masks() -> list[list[bytes]]:
    """Return TIFF files of the masks of four annotators of each lesion: encoding every one anew would take minutes."""
    import io

    import numpy as np
    import tifffile

    def encoded(mask: Any) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, mask.astype(np.uint8), compression="zlib")
        return buffer.getvalue()

    return [[encoded(_lesion(number, annotator)) for annotator in range(4)] for number in range(POOL)]


def _photo(lesion: int, rng: Any) -> bytes:
    """Return a JPEG unlike all others: features and pixels are kept by content."""
    import io

    import numpy as np
    from PIL import Image

    skin = np.where(_lesion(lesion, 0)[..., None], (120, 60, 50), (222, 178, 150))
    buffer = io.BytesIO()
    Image.fromarray((skin + rng.integers(-6, 7, (HEIGHT, WIDTH, 3))).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def _encounter(number: int, names: Sequence[str], rng: Any) -> dict[str, Any]:
    def text(words: Sequence[str], most: int, glue: str) -> str:
        return glue.join(words[i] for i in rng.integers(0, len(words), rng.integers(3, most)))

    def both(prefix: str, most: int) -> dict[str, str]:
        return {f"{prefix}_en": text(WORDS, most, " "), f"{prefix}_zh": text(HAN, most, "")}

    responses = [{"author_id": f"U{k}", **both("content", 60)} for k in range(int(rng.integers(1, 4)))]
    head = {"encounter_id": f"ENC{number:05}", "image_ids": [f"{name}.jpg" for name in names]}
    return head | both("query_title", 8) | both("query_content", 90) | {"responses": responses}


def _answers(questions: Any, rng: Any) -> dict[str, int]:
    sets = {p: {int(rng.integers(questions.by_qid[qids[0]].size))} for p, qids in questions.parents.items()}
    row: dict[str, int] = questions.to_slots(sets)
    return row


def stages(root: Path, out: Path) -> dict[str, list[str]]:
    """Return the commands in their order; all that read or write predictions use split train, the largest."""
    prepared, seg, cvqa, zipped = root / "prepared", root / "seg", root / "cvqa", root / "submission.zip"
    data, split = ["--data", str(prepared)], ["--split", "train"]
    tiny = ["--preset", "tiny", "--device", "cpu", "--set", "epochs=1", "--set", "batch_size=64"]
    ckpt = {task: str(root / "runs" / task / "best.pt") for task in ("seg", "cvqa")}
    return {
        "prepare": ["prepare", "--data", str(root / "raw"), "--out", str(prepared)],
        "train seg": ["train", "seg", *data, *tiny, "--out", str(root / "runs/seg")],
        "train cvqa": ["train", "cvqa", *data, *tiny, "--out", str(root / "runs/cvqa")],
        "predict seg": ["predict", "seg", "--ckpt", ckpt["seg"], *data, *split, "--out", str(seg)],
        "predict cvqa": ["predict", "cvqa", "--ckpt", ckpt["cvqa"], *data, *split, "--out", str(cvqa)],
        "package": ["package", "--seg", str(seg), "--cvqa", str(cvqa), *data, *split, "--out", str(zipped)],
        "package --check-only": ["package", "--check-only", str(zipped), *data, *split],
        "score folder": ["score", str(seg), str(prepared), *split],
        "score zip, raw gold": ["score", str(zipped), str(root / "raw"), *split],
        "score --out --against": [
            *("score", str(zipped), str(prepared), *split, "--against", str(zipped), "--out", str(out))
        ],
        "doctor": ["doctor"],
    }


def left_behind(root: Path) -> tuple[int, int]:
    """Return how many files are below a folder, and their bytes."""
    sizes = [(Path(folder) / name).stat().st_size for folder, _, names in os.walk(root) for name in names]
    return len(sizes), sum(sizes)


def tree(pid: int) -> Iterator[int]:
    """Yield a process and its children, theirs included (Linux)."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in thread.read_text().split():
            yield from tree(int(child))


def memory(pid: int) -> int:
    """Return what a tree of processes holds, pages that several of them share counted once, in KiB."""
    rollups = [Path(f"/proc/{one}/smaps_rollup").read_text() for one in tree(pid)]
    return sum(int(line.split()[1]) for text in rollups for line in text.splitlines() if line.startswith("Pss:"))


def run(command: Sequence[str], cwd: Path, environment: dict[str, str], log: Path) -> Cost:
    """Run a process to its end and return what it took; the files it wrote are counted by the caller.

    posix_spawn, and a parent that has loaded nothing: a child's peak memory starts with its parent's.
    """
    with log.open("wb") as output:
        actions = [(os.POSIX_SPAWN_DUP2, output.fileno(), number) for number in (1, 2)]
        os.chdir(cwd)
        start, peak, ended = time.perf_counter(), [0], threading.Event()
        child = os.posix_spawn(command[0], list(command), environment, file_actions=actions)

        def watch() -> None:
            while not ended.wait(0.2):
                try:
                    peak[0] = max(peak[0], memory(child))
                except (OSError, ValueError):
                    continue  # it, or one of its children, has just ended

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        _, status, usage = os.wait4(child, 0)
        wall = time.perf_counter() - start
        ended.set()
        watcher.join()
    if status:
        raise SystemExit(f"failed: {' '.join(command)}\n{log.read_text()[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, max(peak[0], usage.ru_maxrss) / 1024, 0, 0)


def measure(work: Path, size: int, only: Sequence[str]) -> dict[str, Cost]:
    """Draw the data of a size, unless it is there, run the commands on it, and return what each took."""
    root, python = work / f"{size}x", sys.executable
    environment = dict(os.environ) | {"XDG_CACHE_HOME": str(root / "cache"), "HF_HUB_OFFLINE": "1"}
    here = Path(__file__).resolve()
    environment["PYTHONPATH"] = str(here.parents[2])
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "raw").is_dir():
        run([python, str(here), "--draw", str(root / "raw.part"), str(size)], root, environment, root / "draw.log")
        (root / "raw.part").rename(root / "raw")
    found: dict[str, Cost] = {}
    for name, words in stages(root, root / "report").items():
        if only and name not in only:
            continue
        again = ["--overwrite"] if words[0] != "doctor" and "--check-only" not in words else []
        before = left_behind(root)
        cost = run([python, "-m", "magic_cli", *words, *again], root, environment, root / "last.log")
        after = left_behind(root)
        found[name] = Cost(cost.wall, cost.cpu, cost.peak, after[0] - before[0], (after[1] - before[1]) / 1e6)
        line = f"{size}x {name}: {cost.wall:.1f} s, CPU {cost.cpu:.1f} s, {cost.peak:.0f} MiB"
        print(line, file=sys.stderr, flush=True)
    return found


def table(found: dict[int, dict[str, Cost]]) -> Iterator[str]:
    """Yield the rows of a Markdown table, one a command."""
    sizes = sorted(found)
    small, large = sizes[0], sizes[-1]
    heads = [f"{what} {size}x" for what in ("CPU s", "wall s", "MiB") for size in sizes]
    yield " | ".join(["| command", *heads, f"files, MB {large}x", "time", "bend", "memory |"])
    yield "|---" * (len(heads) + 5) + "|"
    for name in found[small]:
        costs = [found[size][name] for size in sizes]
        cells = [f"{cost.cpu:.1f}" for cost in costs] + [f"{cost.wall:.1f}" for cost in costs]
        cells += [f"{cost.peak:.0f}" for cost in costs]
        cells.append(f"{costs[-1].files:,}, {costs[-1].size:.1f}" if costs[-1].files else "")
        slopes = [
            (b.cpu - a.cpu) / (j - i) for i, j, a, b in zip(sizes, sizes[1:], costs, costs[1:], strict=False) if j > i
        ]
        bend = f"{slopes[-1] / slopes[0]:.2f}" if len(slopes) > 1 and slopes[0] > 0.05 else ""
        cells += [f"{costs[-1].cpu / costs[0].cpu:.1f} x", bend, f"{costs[-1].peak / costs[0].peak:.2f} x"]
        yield " | ".join([f"| {name}", *cells]) + " |"


def main() -> None:
    """Draw, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 3, 10], help="multiples of the real size")
    parser.add_argument("--work", type=Path, help="folder to keep data and results in; a temporary one otherwise")
    parser.add_argument("--only", nargs="+", default=[], help="names of commands, where --work holds what they need")
    parser.add_argument("--draw", nargs=2, metavar=("DIR", "SIZE"), help="only draw the data (used by the benchmark)")
    options = parser.parse_args()
    if options.draw:
        draw(Path(options.draw[0]), int(options.draw[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).resolve()
        found = {size: measure(work, size, options.only) for size in sorted(options.sizes)}
        pages = {size: [work / f"{size}x" / page for page in PAGES] for size in found}
        for line in table(found):
            print(line)
        print()
        for size, paths in pages.items():
            kept = ", ".join(f"{path.name} {path.stat().st_size / 1000:,.0f} kB" for path in paths if path.is_file())
            print(f"{size}x: {PHOTOS * size:,} photos; {kept}")


if __name__ == "__main__":
    main()
