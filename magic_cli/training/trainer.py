"""The training loop, for every task: epochs, early stopping on the task's score, a state to resume after a kill."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path

import torch
from accelerate.utils import send_to_device

from magic_cli.config import Config
from magic_cli.data.lazy_samples import blocks_of, window_of
from magic_cli.errors import CheckpointError, DataError, Interrupted, MagicError, problem
from magic_cli.io import environment
from magic_cli.io.durations import phase
from magic_cli.io.files import sweep
from magic_cli.io.json_files import finite, write_jsonl
from magic_cli.io.progress import log, track
from magic_cli.io.signals import Interrupt
from magic_cli.models.cache import notes
from magic_cli.models.cache.features import FeatureCache
from magic_cli.records import CheckpointMeta, Prediction, Sample, TaskScores
from magic_cli.training import checkpoint, resume
from magic_cli.training.cached_accumulation import ChunkedModel, backward_in_parts
from magic_cli.training.devices import accelerator_for
from magic_cli.training.inference import Watch, fill_cache, predict
from magic_cli.training.loader import Batches, ClassBatches, Share, Views, WholeBatches, batches_of, loader_for
from magic_cli.training.monitoring import out_of_memory
from magic_cli.training.monitoring.interval import interval_of
from magic_cli.training.monitoring.outlook import Outlook, Plan
from magic_cli.training.parts import Data, Part, mean_scores
from magic_cli.training.processes.agreement import require_same
from magic_cli.training.processes.batch_norm import share_statistics, uncounted
from magic_cli.training.processes.steps import EpochLoss, any_process, draw_anew, first_says, has_to_stop
from magic_cli.training.restoring import seen_before, start_from
from magic_cli.training.resume import RandomStates, StepSnapshot, TrainProgress
from magic_cli.training.run_folder import complete_folder
from magic_cli.training.seen import Seen, overlap_lines
from magic_cli.training.task_model import Batch
from magic_cli.training.updates import ModelEma, optimizer_for, rate, report_skipped, was_skipped
from magic_cli.training.workers import RESUMES, report_ends, require_workers

Observer = Callable[[TrainProgress], None]
"""Told of a run's progress before its first epoch and after each, once that is saved; it changes nothing of it."""


def _tell(observers: Sequence[Observer], progress: TrainProgress) -> None:
    for observer in observers:
        observer(progress)


class Trainer:
    """A training run and its folder with best.pt, state.pt and metrics.jsonl."""

    def __init__(self, name: str, data: Data, config: Config, out: Path, device: str, cache: FeatureCache | None):
        """Build the model, after the seeds are set, so that a seed determines its initial weights."""
        self.name, self.data, self.config, self.out = name, data, config, out
        self.accelerator = accelerator_for(config, device)
        require_same(self.accelerator, {"task": name, "data": data.sha256, **config.as_dict()})
        self.core = data.task.build(config, data.questions)
        self.core.cache = cache
        self.progress = TrainProgress()
        ours = self.accelerator.process_index, self.accelerator.num_processes
        shares = [Share(len(part.train), part.weight, blocks_of(part.train)) for part in data.parts]
        self.train_set = Views(data.train, config.seed, config.n_views, shares=shares)
        sizes = config.batch_size, config.grad_accum_steps, *ours
        if data.task.whole_batches:
            window = data.task.shuffle_window(config) or window_of(data.train)
            whole = WholeBatches(self.train_set, *sizes, window)
            self.batches: Batches = whole
            if classes := data.task.batch_classes(data.train, config):
                self.batches = ClassBatches(whole, *classes)
        else:
            self.batches = Batches(self.train_set, *sizes)
        self.ema: ModelEma | None = None
        self.updating = self.skipped = False
        self.stop = Interrupt()
        self._scored: list[TaskScores] = []  # of the last epoch, by dataset

    def run(self, resume: bool, observers: Sequence[Observer] = ()) -> TrainProgress:
        """Train to the end, or to early stopping; return the final progress.

        Args:
            resume: go on where state.pt of the folder was saved.
            observers: of several processes, only the main one calls them.

        Raises:
            Interrupted: a signal came (io/signals.py); the state was saved after the step that was running.
            DataError: the loss is no longer finite. MagicError: a worker of the data loader died; the state was saved.
        """
        require_workers(self.config)
        sweep(self.out)
        saved = self.prepare(resume)
        for line in overlap_lines(self.data.valid, seen_before(self.config)) if saved is None else ():
            log(f"note: {line}")
        if saved is not None:
            self._restore(saved)
        self.total = self.batches.updates * self.config.epochs
        observers = observers if self.accelerator.is_main_process else ()
        self.outlook = self._outlook()
        too_little = partial(out_of_memory.remedy, self.config, self.accelerator.device, self.data.task.whole_batches)
        with self.stop, report_ends(self.out, RESUMES, too_little):
            _tell(observers, self.progress)
            while not self.progress.finished:
                with phase("training"):
                    self._epoch()
                    notes.current().report()
                    self._close()
                _tell(observers, self.progress)
            if any_process(self.accelerator, self.stop.requested):  # the next steps start from what is saved
                raise self._interrupted()
        self.accelerator.wait_for_everyone()  # the main process may still be writing best.pt
        return self.progress

    def prepare(self, resume: bool = False) -> resume.State | None:
        """Encode for the cache, make the optimizer, and move the model to its device.

        Returns:
            What state.pt holds of a run that is resumed, whose weights the model has then; None for a new run.
        """
        fill_cache(self.core, self.data.train, self.config.views, self.accelerator)
        fill_cache(self.core, self.data.valid, 1, self.accelerator)
        self.core.to(self.accelerator.device)
        self.optimizer = optimizer_for(self.core, self.config)
        saved = self._load() if resume else None
        require_same(self.accelerator, {"state.pt, its epoch": self.progress.epoch, "step": self.progress.step})
        if saved is None:
            self.core.begin(self.data.train)
            if self.config.init:
                start_from(self.core, Path(self.config.init), self.name)
        if self.accelerator.num_processes > 1:
            share_statistics(self.core)
        cuda = self.accelerator.device.type == "cuda"
        self.loader = loader_for(self.core, self.train_set, self.config, self.batches, cuda)
        self.model, self.optimizer = self.accelerator.prepare(self.core, self.optimizer)
        self.ema = ModelEma(self.core, self.config.ema) if self.config.ema else None
        changing = checkpoint.live(self.core)
        self.statistics = [tensor for name, tensor in self.core.named_buffers() if name in changing]
        return saved

    def try_step(self, samples: Sequence[Sample]) -> None:
        """Take a whole step on these samples, to see whether memory suffices; the weights are other ones then."""
        self.model.train()
        batch = self.core.collate(samples, [number % self.config.n_views for number in range(len(samples))])
        self._backward(send_to_device(batch, self.accelerator.device), 1.0, closes=True)
        self.optimizer.step()
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize()  # what does not fit is told late

    def _outlook(self) -> Outlook:
        """Return what can be said of this run, and log it unless the run had ended before."""
        plan = Plan(
            epochs=self.config.epochs,
            steps=self.batches.total,
            every=self.config.grad_accum_steps,
            samples=len(self.train_set),
            batch_size=self.config.batch_size,
            valid=len(self.data.valid),
            monitor=self._monitor,
            patience=self.config.patience,
            best=complete_folder(self.out) / "best.pt",
            work=self.out,
        )
        for line in () if self.progress.finished else plan.lines(self.accelerator.device):
            log(line)
        return Outlook(plan, self.accelerator.device)

    def _epoch(self) -> None:
        """Run the rest of the epoch; on a signal or an error, save the state after the last complete update."""
        self.train_set.epoch, self.batches.start = self.progress.epoch, self.progress.step
        self.model.train()
        # The sum stays on the device: reading it at every step would stall a GPU. MPS has no float64.
        loss = EpochLoss(self.accelerator, self.progress.loss_sum)
        done, snapshot = self.progress.step, StepSnapshot.of(loss.total, self.statistics)
        self.outlook.begin_epoch(self.progress.epoch, done, self.progress.best)
        try:
            label = f"epoch {self.progress.epoch + 1}/{self.config.epochs}"
            with batches_of(self.loader, self.accelerator.device) as batches:
                for batch in track(batches, label, len(self.loader), self.outlook.status, leaves_line=False):
                    draw_anew(self.accelerator, self.config.seed, self.progress.epoch, done)
                    loss.add(self._step(batch, done))
                    done += 1
                    self.outlook.step(loss.so_far, done)
                    if self.batches.closes(done - 1):
                        self._count(loss, done)
                        snapshot = StepSnapshot.of(loss.total, self.statistics)
                        self.updating = False
                        if has_to_stop(self.accelerator, self.stop.requested, done, done == self.batches.total):
                            raise self._interrupted()
        except BaseException as error:
            self.progress.loss_sum = snapshot.loss.item()
            self._save_after(error, snapshot)
            raise
        self.progress.loss_sum = loss.total.item()

    def _count(self, loss: EpochLoss, done: int) -> None:
        """Count an update that ends with the first `done` batches of the epoch, or that float16 left out."""
        counts = loss.close(self.skipped)
        if self.skipped:
            self.progress.skipped += 1
        if not counts:
            self.progress.left_out += (done - 1) % self.batches.every + 1
        self.progress.step = done

    def _step(self, batch: Batch, number: int) -> torch.Tensor:
        """Train on batch `number` of the epoch; return its loss, whose mean over processes is the batch's."""
        closes = self.batches.closes(number)
        share = 1.0 if self.core.loss_spans_processes else self.batches.share(number)
        with nullcontext() if self.batches.share(number) else uncounted():
            loss = self._backward(batch, share * self.batches.weight(number), closes)
        if closes:
            self._update()
        scaled: torch.Tensor = loss.detach().float() * share
        return scaled

    def _backward(self, batch: Batch, factor: float, closes: bool) -> torch.Tensor:
        """Add the gradient of `factor` x the loss of a batch to the weights'; return the loss."""
        if isinstance(self.core, ChunkedModel) and self.core.is_divided:
            return backward_in_parts(self.model, self.core, batch, self.accelerator, factor, closes)
        with nullcontext() if closes else self.accelerator.no_sync(self.model):
            with self.accelerator.autocast():
                loss: torch.Tensor = self.model(batch)
            self.accelerator.backward(loss * factor)
        return loss

    def _save_after(self, error: BaseException, snapshot: StepSnapshot) -> None:
        """Save the state of `snapshot` after an error, unless it came during an update or a swap of weights.

        Raises:
            Interrupted: the error came of a signal: it ended the wait for a batch, or a worker got it, too.
            DataError: files that were read have been replaced, so that the state may hold what others taught.
        """
        if isinstance(error, OSError | MagicError):
            self.data.check_unchanged()  # why a file is missing or does not fit
        wanted = isinstance(error, Interrupted)
        came_of_signal = self.stop.requested and isinstance(error, KeyboardInterrupt | RuntimeError)
        if not self.updating and (self.ema is None or self.ema.holds_live_weights):
            with nullcontext() if wanted or came_of_signal else suppress(Exception):
                self.data.check_unchanged()
                snapshot.restore(self.statistics)
                self._save(snapshot.random)
            if came_of_signal:
                raise self._interrupted() from None

    def _update(self) -> None:
        self.updating = True
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * rate(self.config, self.progress.updates, self.total)
        self.accelerator.clip_grad_norm_(
            (p for p in self.model.parameters() if p.requires_grad), self.config.grad_clip_norm
        )
        self.optimizer.step()
        self.core.constrain()
        self.optimizer.zero_grad()
        self.skipped = was_skipped(self.optimizer, self.accelerator.scaler, self.out)
        self.progress.updates += not self.skipped
        if self.ema and not self.skipped:
            self.ema.update()

    def _close(self) -> None:
        """Close the epoch: score its weights, decide whether to continue, save the state.

        If this is interrupted, the state is that of the epoch's last step, and a resumed run closes the epoch again.
        """
        before = self.progress.copy()
        snapshot = StepSnapshot.of(torch.tensor(self.progress.loss_sum), self.statistics)
        try:
            self.data.check_unchanged()
            with self.ema.applied() if self.ema else nullcontext():
                self._score_epoch()
        except BaseException as error:
            self.progress = before
            self._save_after(error, snapshot)
            raise
        self._save(resume.random_states())
        if any_process(self.accelerator, self.stop.requested) and not self.progress.finished:
            raise self._interrupted()

    def _score_epoch(self) -> None:
        """Save the model's current weights if they are the best so far or, without validation data, the last."""
        loss = self.progress.mean_loss(self.batches.total)
        if not math.isfinite(loss):
            raise DataError(f"{self.out}: the loss is {loss} in epoch {self.progress.epoch + 1}; use a lower --set lr=")
        if self.accelerator.scaler is not None:
            report_skipped(self.progress, self.batches.updates, self.core, self.out)
        start, validated = time.monotonic(), bool(self.data.valid)
        scores = self._scores() if validated else {}
        score = first_says(self.accelerator, self._monitored(scores)) if validated else -math.inf
        self.progress.history.append(finite({"epoch": self.progress.epoch + 1, "loss": loss} | scores))
        last = self.progress.epoch + 1 >= self.config.epochs
        # a score that no epoch has chooses none: the last weights are kept, as without validation data
        is_best = score > self.progress.best or (last and self.progress.best == -math.inf)
        self.data.check_unchanged()  # also while it was validated
        if is_best:
            self.progress.best, self.progress.best_epoch = score, self.progress.epoch
        stale = self.progress.epoch - self.progress.best_epoch
        self.progress.begin_next()
        self.progress.finished = last or (self.progress.best_epoch >= 0 and 0 < self.config.patience <= stale)
        if self.accelerator.is_main_process:
            write_jsonl(self.out / "metrics.jsonl", self.progress.history)
            if is_best:  # written last: a fold that has it is complete
                checkpoint.save_best(self.out / "best.pt", self.core, self._meta(), self.seen)
        each = {part.name: scores[key] for part in self.data.parts if (key := f"{part.name}/{self._monitor}") in scores}
        scored = self.outlook.scored(score, is_best, each) if validated else ""
        log(self.outlook.end_epoch(loss, scored, time.monotonic() - start))
        if validated and self.progress.best == -math.inf and (last or self.progress.epoch == 1):
            log(self.outlook.plan.undefined())

    @cached_property
    def seen(self) -> Seen:
        """What the weights have seen, also in the runs that they started from."""
        return seen_before(self.config, self.data.seen)

    def _scores(self) -> dict[str, float]:
        with phase("scoring"):
            reports = {part.name: self.data.task.score(part.gold, self._predictions(part)) for part in self.data.parts}
        self._scored = list(reports.values())
        scores = {name: {**report.scores, **report.extra} for name, report in reports.items()}
        return mean_scores(scores, self.data.task.count_score)

    def _predictions(self, part: Part) -> Iterator[Prediction]:
        self.data.task.before_predicting(self.core, lambda: part.gold)
        watch = Watch(f"scoring epoch {self.progress.epoch + 1}", self.stop)
        for prediction in predict(self.core, part.valid, self.config, self.accelerator, watch=watch):
            if watch.ends:
                raise self._interrupted()
            yield prediction

    @property
    def _monitor(self) -> str:
        return self.config.monitor or self.data.task.monitor

    def _monitored(self, scores: Mapping[str, float]) -> float:
        if self._monitor not in scores:
            raise DataError(f"--set monitor={self._monitor}: no such score; known: {', '.join(scores)}")
        value = scores[self._monitor]
        return -math.inf if math.isnan(value) else float(value)

    def _meta(self) -> CheckpointMeta:
        return CheckpointMeta(
            format=checkpoint.FORMAT,
            task=self.name,
            config=self.config.as_dict(),
            questions=tuple(self.data.questions.as_json()),
            encoders={f"{path}={e.source}": e.weights_sha256 for path, e in checkpoint.encoders(self.core).items()},
            history=tuple(self.progress.history),
            score=finite(self.progress.best),
            seed=self.config.seed,
            manifest_sha256=self.data.sha256,
            versions=environment.installed_versions(),
            origins={
                path: asdict(encoder.origin)
                for path, encoder in checkpoint.encoders(self.core).items()
                if encoder.origin is not None
            },
            interval=interval_of(self._scored[0], self._monitor) if len(self._scored) == 1 else None,
        )

    def _save(self, random_states: RandomStates) -> None:
        if not self.accelerator.is_main_process:
            return
        tensors: resume.State = {"optimizer": self.optimizer.state_dict(), "random": random_states}
        tensors |= {} if self.accelerator.scaler is None else {"scaler": self.accelerator.scaler.state_dict()}
        tensors["weights"] = checkpoint.learned(self.core)
        if self.ema:
            tensors["average"] = self.ema.state()
        owner = {"task": self.name, "config": self.config.as_dict(), "data": self.data.sha256}
        resume.save(self.out / "state.pt", owner, self.progress, tensors)

    def _load(self) -> resume.State | None:
        path = self.out / "state.pt"
        if not path.is_file():
            return None
        self.progress, tensors = resume.load(path, self.data.sha256)
        best = self.out / "best.pt"  # it is written before the state that knows of it
        if self.progress.best_epoch >= 0 and not best.is_file():
            expected = f"the weights of epoch {self.progress.best_epoch + 1}, the best before the interruption"
            raise CheckpointError(problem(best, "no such file", expected, "put it back, or train without --resume"))
        with resume.fitting(path):
            checkpoint.load_learned(self.core, tensors["weights"], path)
            checkpoint.check_handed_on(self.core, path)
        return tensors

    def _restore(self, saved: resume.State) -> None:
        with resume.fitting(self.out / "state.pt"):
            self.optimizer.load_state_dict(saved["optimizer"])
            resume.check_moments(self.optimizer)
            if self.accelerator.scaler is not None and "scaler" in saved:
                self.accelerator.scaler.load_state_dict(saved["scaler"])
            if self.ema:
                self.ema.load(saved["average"])
            resume.restore_random_states(saved["random"])
        log(f"resumed at epoch {self.progress.epoch + 1}, step {self.progress.step}")

    def _interrupted(self) -> Interrupted:
        where = f"interrupted at epoch {self.progress.epoch + 1}, step {self.progress.step}, saved"
        return Interrupted(f"{self.out}: {where}; {RESUMES}")
