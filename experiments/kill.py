"""Kill trainings with SIGKILL, resume them, and compare the weights with those of trainings that were left alone.

    python -m experiments.kill --kills 20

Each run is ``anomalib-memmc fit`` in a process of its own, killed twice and resumed from ``latest/.../last.ckpt`` as
docs/resuming.md says. It is killed at a random step, in a validation, while a checkpoint is written, or from outside at
a random moment. Where it is killed is the matter of a callback (``Kill``) that only these runs have. The processes are
forked from one that has imported everything, which saves ten seconds each.
"""

import argparse
import itertools
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess as Process
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, Trainer

from anomalib_memmc import cli
from anomalib_memmc.callbacks.keep_checkpoints import LAST

SERVER = multiprocessing.get_context("forkserver")
VARIABLE = "MEMMC_KILL"  # KIND:STEP:DETAIL, from the parent process to Kill
HOOKS = ("on_train_batch_start", "on_after_backward", "on_before_optimizer_step", "on_train_batch_end")
STAGES = ("half of the file", "before the rename", "after the rename")
DETAILS = {"step": HOOKS, "validation": ("batch 1", "batch 2"), "write": STAGES, "moment": ("",)}  # each in turn
VARIANTS = ((0, 1), (2, 1), (0, 2))  # worker processes, accumulated batches
KILLS_PER_RUN = 2
EPOCHS, BATCHES = 4, 10
PATIENCE = 1200  # seconds for one process


class Kill(Callback):
    """Kill this process at the first chance at or after a step, as the variable says; without it do nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.kind, step, self.detail = (os.environ.get(VARIABLE) or "::").split(":")
        self.step = int(step or -1)
        self.part = 0
        if self.kind == "step":
            setattr(self, HOOKS[int(self.detail)], lambda trainer, *_: self._kill_from(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Tell that it has begun, and prepare to be killed while writing."""
        del pl_module
        Path(trainer.default_root_dir, "started").touch()
        if self.kind == "write":
            self._trap_writes(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Die in a validation."""
        if self.kind == "validation" and args[3] == int(self.detail):
            self._kill_from(trainer)

    def _kill_from(self, trainer: Trainer) -> None:
        if trainer.global_step >= self.step:
            _die()

    def _trap_writes(self, trainer: Trainer) -> None:
        save, replace = torch.save, os.replace
        stage = STAGES[int(self.detail)]

        def save_half(checkpoint: Any, path: Any) -> None:
            save(checkpoint, path)
            if trainer.global_step >= self.step and stage == STAGES[0]:
                os.truncate(path, os.path.getsize(path) // 2)
                _die()

        def replace_and_die(source: Any, target: Any) -> None:
            due = trainer.global_step >= self.step and str(target).endswith(".ckpt")
            if due and stage == STAGES[1]:
                _die()
            replace(source, target)
            if due:
                _die()

        torch.save, os.replace = save_half, replace_and_die


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Row:
    """A kill and what became of it."""

    run: int
    variant: tuple[int, int]
    where: str
    resumed_from: int
    difference: float | None = None


def main(arguments: list[str] | None = None) -> int:
    """Kill, resume, compare and print a table; the exit code is 1 if a checkpoint was unusable or a weight differs."""
    parser = argparse.ArgumentParser(prog="python -m experiments.kill", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--folder", type=Path, default=Path("results/kill"), help="where the runs go")
    options = parser.parse_args(arguments)
    if options.folder.exists() and any(options.folder.iterdir()):
        parser.error(f"{options.folder} is not empty: remove it, or name another --folder.")
    SERVER.set_forkserver_preload(["experiments.kill"])
    draw = random.Random(options.seed)
    rows: list[Row] = []
    references: dict[tuple[int, int], tuple[dict[str, Any], float]] = {}
    kinds = _kinds(draw)
    while len(rows) < options.kills:
        run = rows[-1].run + 1 if rows else 1
        variant = VARIANTS[(run - 1) % len(VARIANTS)]
        if variant not in references:
            references[variant] = _reference(options.folder, variant)
        own = [next(kinds) for _ in range(min(KILLS_PER_RUN, options.kills - len(rows)))]
        rows += _killed_run(options.folder, run, variant, references[variant], own, draw)
        print(f"{len(rows)} of {options.kills} kills, largest difference so far {_largest(rows)}", file=sys.stderr)
    print(_table(rows))
    return int(_largest(rows) != 0)


def _kinds(draw: random.Random) -> Iterator[tuple[str, int]]:
    """The kinds of kills, each as often, in random order, and how often there was one of the kind before."""
    for turn in itertools.count():
        yield from ((kind, turn) for kind in draw.sample(list(DETAILS), len(DETAILS)))


def _reference(folder: Path, variant: tuple[int, int]) -> tuple[dict[str, Any], float]:
    """The last checkpoint of a run that is left alone, and how many seconds its training took."""
    run = folder / f"reference-{variant[0]}-{variant[1]}"
    _wait(_start(run, variant, None, ""), run, 0)
    (started,) = run.glob("MemMCMAE/Phantom/v*/started")
    (path,) = run.glob("MemMCMAE/Phantom/v*/weights/lightning/model.ckpt")
    return _load(path), path.stat().st_mtime - started.stat().st_mtime


def _killed_run(
    folder: Path,
    number: int,
    variant: tuple[int, int],
    reference: tuple[dict[str, Any], float],
    kinds: list[tuple[str, int]],
    draw: random.Random,
) -> list[Row]:
    """Start a run, kill and resume it, once for each of the kinds, and compare its last weights."""
    run = folder / f"run-{number:02d}"
    latest = run / "MemMCMAE" / "Phantom" / "latest" / "weights" / "lightning"
    last_step = reference[0]["global_step"]
    resume, rows = None, []
    for index, (kind, turn) in enumerate(kinds):
        bounds = [2 + (last_step - 2) * part // len(kinds) for part in (index, index + 1)]
        step = draw.randrange(*bounds)  # the first step ends with the first checkpoint, so not before the second
        if kind == "moment":
            where = _kill_from_outside(run, variant, resume, reference[1] * step / last_step)
        else:
            where = _kill_from_within(run, variant, resume, kind, step, turn % len(DETAILS[kind]))
        resume = (latest / LAST).resolve()  # a run that ends before its moment moves the link
        rows.append(Row(number, variant, where, _load(resume)["global_step"]))  # it can be read; the run goes on below
    _wait(_start(run, variant, resume, ""), run, 0)
    difference = largest_difference(_load(latest / "model.ckpt")["state_dict"], reference[0]["state_dict"])
    for row in rows:
        row.difference = difference
    return rows


def _kill_from_within(
    run: Path, variant: tuple[int, int], resume: Path | None, kind: str, step: int, detail: int
) -> str:
    """Have the callback kill the process; return where."""
    process = _start(run, variant, resume, f"{kind}:{step}:{detail}")
    _wait(process, run, -signal.SIGKILL)
    return f"{kind}, from step {step}: {DETAILS[kind][detail].replace('_', ' ')}"


def _kill_from_outside(run: Path, variant: tuple[int, int], resume: Path | None, seconds: float) -> str:
    """Kill the process so many seconds after its first checkpoint; if it was faster, again after half of them."""
    checkpoints = f"MemMCMAE/Phantom/v*/weights/lightning/{LAST}"
    before = set(run.glob(checkpoints))
    process = _start(run, variant, resume, "")
    while process.is_alive() and set(run.glob(checkpoints)) <= before:
        time.sleep(0.005)
    process.join(seconds)
    if not process.is_alive():
        _wait(process, run, 0)
        return _kill_from_outside(run, variant, resume, seconds / 2)
    process.kill()
    _wait(process, run, -signal.SIGKILL)
    return f"moment, {seconds:.2f} s after the first checkpoint"


def _start(run: Path, variant: tuple[int, int], resume: Path | None, kill: str) -> Process:
    """Start ``anomalib-memmc fit``."""
    run.mkdir(parents=True, exist_ok=True)
    config = run / "config.yaml"
    config.write_text(yaml.safe_dump(_config(run.parent.resolve() / "images", *variant)))
    arguments = ["fit", "--config", str(config.resolve()), "--default_root_dir", str(run.resolve())]
    arguments += ["--ckpt_path", str(resume.resolve())] if resume else []
    process = SERVER.Process(target=_run, args=(arguments, run / "log.txt", kill))
    process.start()
    return process


def _run(arguments: list[str], log: Path, kill: str) -> None:
    """The command line, in a process of its own, its words in a file."""
    os.environ[VARIABLE] = kill
    multiprocessing.set_start_method("fork", force=True)  # the loaders' workers, as in a shell on Linux
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(cli.main(arguments))


def _wait(process: Process, run: Path, expected: int) -> None:
    process.join(PATIENCE)
    if process.exitcode != expected:
        process.kill()
        msg = f"A run in {run} ended with exit code {process.exitcode} instead of {expected}; see its log.txt."
        raise RuntimeError(msg)


def _config(images: Path, workers: int, accumulate: int) -> dict[str, Any]:
    """A tiny model on generated images, with augmentations, validated every second epoch."""
    network = {"image_size": 32, "patch_size": 8, "memory_slots": 4}
    for part in ("encoder", "decoder"):
        network |= {f"{part}_dim": 32, f"{part}_depth": 2, f"{part}_heads": 2}
    scorer = {"class_path": "anomalib_memmc.scoring.MahalanobisScorer", "init_args": {"num_masks": 4}}
    crop = {"class_path": "torchvision.transforms.v2.RandomResizedCrop", "init_args": {"size": [32, 32]}}
    data = {"root": str(images), "image_size": 40, "num_train": 8 * BATCHES + 7, "num_test_normal": 2}
    data |= {"num_test_anomalous": 2, "num_val_normal": 8, "train_batch_size": 8, "eval_batch_size": 4}
    model = {**network, "scorer": scorer, "warmup_epochs": 1, "seed": 0, "checkpoint_minutes": 0.001}
    trainer = {"accelerator": "cpu", "max_epochs": EPOCHS, "check_val_every_n_epoch": 2, "num_sanity_val_steps": 0}
    trainer |= {"accumulate_grad_batches": accumulate, "enable_progress_bar": False}
    return {
        "model": {"class_path": "anomalib_memmc.MemMCMAE", "init_args": model},
        "data": {
            "class_path": "anomalib_memmc.Phantom",
            "init_args": {**data, "num_workers": workers, "train_augmentations": crop},
        },
        "trainer": {**trainer, "callbacks": [{"class_path": "experiments.kill.Kill"}]},
    }


def _load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest absolute difference of two states, infinite where they are not of the same names and shapes.

    Args:
        one: Tensors by name: weights, thresholds, what the scorer learnt.
        other: The same of another model.

    Returns:
        A number, at least 0.
    """
    if {name: value.shape for name, value in one.items()} != {name: value.shape for name, value in other.items()}:
        return float("inf")
    pairs = [(one[name].double(), other[name].double()) for name in one if one[name].numel()]
    return max(_difference(*pair) for pair in pairs)


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """As above of two tensors, of which NaN equals NaN and nothing else."""
    equal = (one == other) | (one.isnan() & other.isnan())
    return float(torch.where(equal, 0.0, (one - other).abs().nan_to_num(float("inf"))).max())


def _largest(rows: list[Row]) -> float:
    return max(float("inf") if row.difference is None else row.difference for row in rows)


def _table(rows: list[Row]) -> str:
    lines = ["| run | workers | batches a step | killed | resumed from step | largest difference |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        workers, accumulate = row.variant
        cells = (row.run, workers, accumulate, row.where, row.resumed_from, row.difference)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    summary = f"{len(rows)} kills, {len(rows)} usable checkpoints, largest difference {_largest(rows)}."
    return "\n".join([*lines, "", summary])


if __name__ == "__main__":
    sys.exit(main())
