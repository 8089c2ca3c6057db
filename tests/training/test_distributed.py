"""Two CPU processes: one run, samples and figures of one process, nothing twice, and a common end."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from launchers import launched, run_together
from process_runs import at_the_middle, difference, train_all, weights
from run_options import train_options

from magic_cli.commands import train
from magic_cli.commands.predict import predict
from magic_cli.commands.prediction.options import PredictOptions
from magic_cli.config import resolve
from magic_cli.data.index import open_index
from magic_cli.data.prepared import open_prepared
from magic_cli.data.retrieval.queries import photo_samples
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.model import SegModel
from magic_cli.training.devices import accelerator_for
from magic_cli.training.runtime import RuntimeOptions

# 10 training photos in batches of 3: the last batch is one photo, so that one of the processes has none.
SETTINGS = ("epochs=2", "batch_size=3", "grad_accum_steps=2", "dropout=0", "ema=0.9")
NOISY = ("epochs=2", "batch_size=3", "dropout=0.3")
STEPS = 5
"""Whole steps before the second process gets a signal: the epochs have four."""
EQUAL = ("seg", "cvqa", "retrieve")
WAITS = "waiting for the other process"
LOST = "photo: it cannot be read here"
# Run by every process: trains, and writes down what its model was asked to collate and to predict.
DRIVER = """
import json, os, signal, sys, time
from pathlib import Path
import pytest, torch
from magic_cli.commands import predict as predict_command
from magic_cli.commands import train as train_command
from magic_cli.commands.cases import build
from magic_cli.commands.prediction.options import PredictOptions
from magic_cli.errors import DataError, Interrupted
from magic_cli.config import resolve
from magic_cli.training.devices import accelerator_for
from magic_cli.models.cache.features import FeatureCache
from magic_cli.training.inference import average_predictions, predict
from magic_cli.training.runtime import RuntimeOptions
from magic_cli.training.trainer import Trainer
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.model import SegModel
from process_runs import at_the_middle, exit_after, task_trainer, train_all
from run_options import train_options
from stopped_runs import stop_after
from test_distributed import EQUAL, LOST, NOISY, SETTINGS, STEPS
from test_inference import Echo, samples

data, out = Path(sys.argv[1]), Path(sys.argv[2])
rank, seen, collate = int(os.environ["RANK"]), [], SegModel.collate
written = []
def opened(event, words):
    if event == "open" and words[1] and set(words[1]) & set("wax+") and str(out / "runs") in str(words[0]):
        written.append(str(words[0]))
sys.addaudithook(opened)
def noted(self, samples, views):
    seen.append([self.training, [s.id for s in samples], list(views)])
    return collate(self, samples, views)
SegModel.collate = noted
found = train_command.train("seg", data, out / "runs" / "seg", train_options(out / "cache", *SETTINGS)).to_json()
SegModel.collate = collate

config = resolve(SegConfig, "tiny", ["batch_size=4"])
accelerator = accelerator_for(config, "cpu")
lengths = {}
for count in (1, 3, 4, 5, 8, 9, 13):
    runs_ = [predict(Echo(), samples(count), config, accelerator, view) for view in (0, 2)]
    means = average_predictions(runs_)  # two loaders in turn, as --tta
    lengths[count] = [[len(p.id), float(p.probability[0, 1])] for p in means]
model = Echo()
model.register_buffer("mean", torch.tensor([float(rank) + 5]))
list(predict(model, samples(3), config, accelerator))

train_all(data, out / "runs" / "equal", EQUAL)

step, seeds = Trainer._step, []
def seeded(self, *words):
    seeds.append(torch.initial_seed())
    return step(self, *words)
Trainer._step = seeded
noisy = lambda name: task_trainer("seg", data, out / "runs" / name, *NOISY)
noisy("unbroken").run(False)
with pytest.MonkeyPatch.context() as patch:
    if rank == 1:
        stop_after(patch, STEPS, signal.SIGINT)
    try:
        noisy("stopped").run(False)
    except Interrupted as error:
        stopped = str(error)
noisy("stopped").run(True)

SegModel.closer = at_the_middle
encoded, fill = [], FeatureCache.fill
def counted(self, *words):
    encoded.append(fill(self, *words))
    return encoded[-1]
FeatureCache.fill = counted
def predicted():
    encoded.clear()
    options = PredictOptions(zoom=2.0, runtime=RuntimeOptions("cpu", out / "features"))
    predict_command.predict("seg", out / "runs" / "seg", data, "valid", out / "runs" / "predicted", options)
    return sum(encoded)
def interrupted(*words):
    raise KeyboardInterrupt
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(SegModel, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predicted()
    first = [sum(encoded), (out / "runs" / "predicted").exists()]
again = predicted()

look = build.unchanged
def late(*words):
    time.sleep(rank)  # the other one has added its first photos by then, if it does not wait
    return look(*words)
build.unchanged, build._AT_ONCE = late, 2
indexed = []
for limit in (3, None):
    options = build.IndexOptions(limit=limit, runtime=RuntimeOptions("cpu", None, True))
    row = build.index_build(out / "index", out / "runs" / "equal" / "retrieve", data, options)
    indexed.append([row.added, row.skipped, row.cases])

result = {"first": first, "again": again, "indexed": indexed, "found": found, "seen": seen, "lengths": lengths}
result |= {"mean": model.mean.item(), "written": written, "seeds": seeds, "stopped": stopped}
(out / f"rank{rank}.json").write_text(json.dumps(result))

def lost(self, *words):
    raise DataError(LOST)
if rank == 1:
    SegModel.collate = lost
exit_after(lambda: train_command.train("seg", data, out / "lost", train_options(None, *SETTINGS)))
"""


def environment(home: Path) -> dict[str, str]:
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "builders")]
    path = os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])
    return os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(home), "PYTHONPATH": path}


@pytest.fixture(scope="module")
def together(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes did, with what each of them saw and wrote to stderr."""
    out = tmp_path_factory.mktemp("together")
    (out / "driver.py").write_text(DRIVER)
    ended = run_together([out / "driver.py", drawn_prepared, out], 2, environment(out))
    for rank, (code, told) in enumerate(ended):
        assert (out / f"rank{rank}.json").is_file(), told
        (out / f"stderr{rank}").write_text(f"{told}exit code {code}\n")
    return out


@pytest.fixture(scope="module")
def alone(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The folder of the same run by one process, and what it collated."""
    from magic_cli.tasks.seg.model import SegModel

    out, seen = tmp_path_factory.mktemp("alone"), []
    with pytest.MonkeyPatch.context() as patch:
        collate = SegModel.collate

        def noted(self: SegModel, samples: Any, views: Any) -> Any:
            seen.append([self.training, [s.id for s in samples], list(views)])
            return collate(self, samples, views)

        patch.setattr(SegModel, "collate", noted)
        train.train("seg", drawn_prepared, out / "seg", train_options(out / "cache", *SETTINGS))
    return out, seen


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ranks(out: Path) -> list[dict[str, Any]]:
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_both_see_the_batches_of_one_process(together: Path, alone: tuple[Path, list[Any]]) -> None:
    """Photo by photo and view by view; only where a process has no share it repeats one, which weighs nothing."""
    everyone = (alone[1], *(rank["seen"] for rank in ranks(together)))
    one, first, second = ([list(zip(i, v, strict=True)) for training, i, v in seen if training] for seen in everyone)
    assert len(first) == len(second) == len(one) == 8
    for whole, a, b in zip(one, first, second, strict=True):
        if len(whole) == 1:
            assert a == b == whole
        else:
            assert sorted([*a, *b]) == sorted(whole)


def test_figures_and_weights_are_those_of_one_process(together: Path, alone: tuple[Path, list[Any]]) -> None:
    """Up to the order of float sums, which Adam's division by small moments enlarges."""
    histories = [(out / "seg" / "metrics.jsonl").read_text().splitlines() for out in (together / "runs", alone[0])]
    for ours, theirs in zip(*(map(json.loads, lines) for lines in histories), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    many, one = (weights(out / "seg") for out in (together / "runs", alone[0]))
    for name, tensor in one.items():
        assert torch.allclose(many[name], tensor, atol=1e-4), name


def test_every_valid_photo_is_scored_once(together: Path) -> None:
    for rank in ranks(together):
        found = rank["found"]
        assert found["best"]["number_segmentation_instances"] == found["valid_samples"]
    assert ranks(together)[0]["found"] == ranks(together)[1]["found"]
    predicted = [i for rank in ranks(together) for training, ids, _ in rank["seen"] if not training for i in ids]
    assert len(predicted) == 2 * found["valid_samples"]  # two epochs


def test_predictions_are_gathered_once_and_in_order(together: Path) -> None:
    """Also from two views in turn, whose loaders are open at the same time."""
    for rank in ranks(together):
        for count, rows in rank["lengths"].items():
            assert rows == [[n, 1.0] for n in range(1, int(count) + 1)]


def test_files_of_predictions_are_written_by_one_process(
    together: Path, drawn_prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of one process, of both looks; a stopped call leaves none, its features are not computed again."""
    monkeypatch.setattr(SegModel, "closer", at_the_middle)
    options = PredictOptions(zoom=2.0, runtime=RuntimeOptions("cpu", together / "features"))
    predict("seg", together / "runs" / "seg", drawn_prepared, "valid", together / "alone-predicted", options)
    ours, alone = (tree(together / name / "masks_preds") for name in ("runs/predicted", "alone-predicted"))
    assert ours == alone
    record = json.loads((together / "runs" / "predicted" / "run.json").read_text())
    assert (len(record["outputs"]), record["machine"]["processes"]) == (len(ours), 2)
    first, second = ranks(together)
    assert first["first"][0] + second["first"][0] >= len(ours) > 0
    assert not first["first"][1]
    assert first["again"] == second["again"] == 0


def test_an_index_has_every_photo_once_also_where_a_process_is_late(together: Path, drawn_prepared: Path) -> None:
    """What is there of a build that was stopped is skipped by both."""
    count = len(photo_samples(open_prepared(drawn_prepared), "train"))
    with open_index(together / "index") as index:
        assert len(index.contents()) == count
    for rank in ranks(together):
        assert rank["indexed"] == [[3, 0, 3], [count - 3, 3, count]]


def test_statistics_are_those_of_the_first_process(together: Path) -> None:
    assert [rank["mean"] for rank in ranks(together)] == [5, 5]


def test_one_process_speaks_and_writes(together: Path) -> None:
    """What the second one writes is the cache, and at last its error."""
    assert (together / "stderr0").read_text().count("epoch 1 of 2: training loss") == 6
    told = (together / "stderr1").read_text().splitlines()  # a slow machine lets it wait for the first one
    assert [line for line in told if WAITS not in line] == [f"error: rank 1: {LOST}", "exit code 3"]
    first, second = (rank["written"] for rank in ranks(together))
    assert any(str(together / "runs" / "seg") in path for path in first)
    assert len(list((together / "runs" / "predicted").rglob("*_mask_*.tiff"))) == 4
    assert not [path for path in second if "photos-" not in path]


@pytest.mark.parametrize("name", EQUAL)
def test_every_task_trains_the_weights_of_one_process(name: str, together: Path, drawn_prepared: Path) -> None:
    """Also where BatchNorm learns, and where a process has no photo; tests/benchmarks/processes.py has more."""
    alone = together / "alone"
    train_all(drawn_prepared, alone, [name])
    of_loss, of_tensor = difference(together / "runs" / "equal" / name, alone / name)
    assert of_loss < 1e-4
    assert of_tensor < 1e-3


def test_shares_of_a_batch_draw_other_numbers(together: Path) -> None:
    """Dropout would else be the same for the photos of all processes."""
    first, second = (rank["seeds"] for rank in ranks(together))
    assert len({*first, *second}) == 2 * 8  # two epochs of four batches, whether they are interrupted or not
    assert len(first) == len(second) == 16


def test_a_signal_to_one_process_stops_all_after_its_step_and_resuming_is_exact(together: Path) -> None:
    """Loss, score and weights are those of a run that was not interrupted, although one process alone saved it."""
    for rank in ranks(together):
        assert "interrupted at epoch 2, step 2, saved" in rank["stopped"]
    for name in ("best.pt", "metrics.jsonl"):
        unbroken, stopped = ((together / "runs" / run / name).read_bytes() for run in ("unbroken", "stopped"))
        assert stopped == unbroken, name


def test_the_error_of_one_process_is_told_and_ends_the_others(together: Path) -> None:
    """In one line each; the first process has nothing to read that is lost."""
    last = (together / "stderr0").read_text().splitlines()[-2:]
    assert last[0].startswith("error: another process of this run ended: its own message is above, or it was killed; ")
    assert "the same command with --resume goes on" in last[0]
    assert last[1] == "exit code 1"


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({"MASTER_ADDR": "127.0.0.1"}, "MASTER_ADDR=127.0.0.1: ignored"),
        ({"WORLD_SIZE": "2", "RANK": "x"}, "WORLD_SIZE=2, RANK=x: ignored"),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "here", "MASTER_PORT": "1"}, ""),
        ({"OMPI_COMM_WORLD_SIZE": "1", "RANK": "", "ACCELERATE_DYNAMO_BACKEND": "inductor"}, ""),
    ],
)
def test_what_no_launcher_of_several_set_is_ignored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], left: dict[str, str], said: str
) -> None:
    """`accelerate launch --cpu --num_processes 2` sets an address and starts one process, without a word."""
    for name in launched(0):
        monkeypatch.delenv(name, raising=False)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    accelerator = accelerator_for(resolve(SegConfig, "tiny"), "cpu")
    assert (accelerator.num_processes, str(accelerator.device)) == (1, "cpu")
    assert not left.keys() & os.environ.keys()
    err = capsys.readouterr().err
    assert (said in err and "torchrun --no-python magic" in err) if said else not err


def test_a_process_that_waits_for_others_says_so_and_ends_at_a_signal(prepared: Path, tmp_path: Path) -> None:
    """All variables are set, but nobody has started a second process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = [sys.executable, "-m", "magic_cli", "train", "cvqa", "--data", str(prepared), "--preset", "tiny"]
    words += ["--out", str(tmp_path / "run"), "--device", "cpu", "--no-cache"]
    variables = environment(tmp_path) | launched(0) | {"MASTER_PORT": port}
    with subprocess.Popen(words, env=variables, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "waiting for" in line)
        assert "WORLD_SIZE=2, this one is RANK=0; if there are none: unset WORLD_SIZE RANK" in line
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
    with socket.create_server(("127.0.0.1", int(port))):
        ended = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert f"error: MASTER_PORT={port}: another program uses it" in ended.stderr


def test_processes_with_other_settings_end_with_one_line(drawn_prepared: Path, tmp_path: Path) -> None:
    """Whichever setting it is: with another number of epochs one would wait, with another rate both would train."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\nfrom pathlib import Path\nfrom process_runs import exit_after, task_trainer\n"
        "settings = ('lr=0.5', 'epochs=2') if os.environ['RANK'] == '1' else ()\n"
        "exit_after(lambda: task_trainer('seg', Path(sys.argv[1]), Path(sys.argv[2]), *settings).run(False))\n"
    )
    ended = run_together([script, drawn_prepared, tmp_path / "run"], 2, environment(tmp_path))
    assert [code for code, _ in ended] == [3, 3]
    told = "".join(text for _, text in ended)  # by the first one that finds it, or by both
    assert "several processes: got lr=0.5, not " in told
    assert "expected the same in all; give all processes the same command" in told
