"""An archive is scored to the end: memory that does not grow, errors as rows, every image once after three kills.

    python -m experiments.archive --images 20000

It paints phantoms of 64 px into a temporary folder, damages some, and scores them with a small model without training,
calibrated on a hundred of them: once in one go, and once killed three times. Memory is the most that the command held,
as it says itself at its end, and the most that one of its workers held; so it needs Linux. A second run of a hundred
images says what does not depend on the number of images.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from lightning import Trainer
from PIL import Image

from anomalib_memmc import MemMCMAE
from anomalib_memmc.archive.calibrate import main as calibrate
from anomalib_memmc.data.phantom.colonoscopy import paint_colonoscopy
from anomalib_memmc.scoring import ReconstructionScorer

SIZE, FEW, DAMAGED, KILLS = 64, 100, 50, 3
MODEL = {
    "image_size": SIZE,
    "patch_size": 8,
    "encoder_dim": 64,
    "encoder_depth": 2,
    "encoder_heads": 4,
    "decoder_dim": 64,
    "decoder_depth": 1,
    "decoder_heads": 4,
    "memory_slots": 16,
}
SCORE = """
import resource, sys
from anomalib_memmc.archive import score, table
from anomalib_memmc.memory.resident import peak_memory_mb
table.PART_ROWS = {}
score.main(sys.argv[1:])
print(peak_memory_mb() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6)
"""
_POLL = 0.02


class Run(NamedTuple):
    """A run of the command: whether it was killed, seconds, and the most memory in MB (NaN where it was killed)."""

    killed: bool
    seconds: float
    peak: float


class Outcome(NamedTuple):
    """What was found.

    Attributes:
        images: Images in the archive.
        damaged: Damaged ones among them.
        kills: How often the second scoring was killed.
        rows: Rows of its table.
        twice: Rows whose image has another one.
        lost: Images without a row.
        errors: Rows with an error.
        wrong_errors: Rows with an error whose image was not damaged, or the other way round.
        difference: Largest difference of a score from that of the scoring in one go.
        growth: Memory of the scoring in one go beyond that of a hundred images, in MB.
        per_second: Images a second of the scoring in one go, without the start, which a hundred images tell.
    """

    images: int
    damaged: int
    kills: int
    rows: int
    twice: int
    lost: int
    errors: int
    wrong_errors: int
    difference: float
    growth: float
    per_second: float


def experiment(images: int, folder: Path, workers: int = 1) -> Outcome:
    """Score an archive of so many images in an empty folder."""
    damaged = _paint(folder / "images", images, min(DAMAGED, images // 4))
    checkpoint = _checkpoint(folder, workers)
    part_rows = min(1000, max(5, images // 20))

    def run(source: str, output: str, kill_at: int | None = None) -> Run:
        options = ["--checkpoint", checkpoint, "--output", folder / output, "--workers", workers, "--device", "cpu"]
        command = [sys.executable, "-W", "ignore", "-c", SCORE.format(part_rows), folder / source, *options]
        return _run([str(word) for word in command], folder / output, kill_at)

    few = run("few", "of-few")
    whole = run("images", "in-one-go")
    kills = sum(run("images", "killed", images * (index + 1) // (KILLS + 1)).killed for index in range(KILLS))
    run("images", "killed")
    expected, found = (
        pd.read_parquet(folder / name / "scores").sort_values("path", ignore_index=True)
        for name in ("in-one-go", "killed")
    )
    names = {path.name for path in (folder / "images").iterdir()}
    is_error = found["error"].notna()
    return Outcome(
        images=images,
        damaged=len(damaged),
        kills=kills,
        rows=len(found),
        twice=int(found["path"].duplicated(keep=False).sum()),
        lost=len(names - {Path(path).name for path in found["path"]}),
        errors=int(is_error.sum()),
        wrong_errors=len({Path(path).name for path in found["path"][is_error]} ^ damaged),
        difference=(found["score"] - expected["score"]).abs().max() if len(found) == len(expected) else float("nan"),
        growth=whole.peak - few.peak,
        per_second=(images - FEW) / (whole.seconds - few.seconds),
    )


def _paint(folder: Path, images: int, damaged: int) -> set[str]:
    """Paint phantoms into a folder, a hundred of them into a second one too; names of those that were damaged."""
    few = folder.with_name("few")
    for each in (folder, few):
        each.mkdir(parents=True)
    for number in range(images):
        picture, _ = paint_colonoscopy(np.random.default_rng(number), SIZE, number % 10 == 0)
        Image.fromarray(picture).save(folder / f"{number:07d}.png", compress_level=1)
        if number < FEW:
            Image.fromarray(picture).save(few / f"{number:07d}.png", compress_level=1)
    chosen = sorted(folder.iterdir())[:: images // damaged][:damaged]
    for index, path in enumerate(chosen):
        data = path.read_bytes()
        path.write_bytes((data[: len(data) // 2], b"", b"no image", data[:-200] + bytes(200))[index % 4])
    return {path.name for path in chosen}


def _checkpoint(folder: Path, workers: int) -> Path:
    """A model without training, calibrated."""
    model = MemMCMAE(**MODEL, scorer=ReconstructionScorer(num_masks=4, mask_sampler="complementary"), seed=0)
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "fresh.ckpt")
    path = folder / "model.ckpt"
    words = ["--checkpoint", folder / "fresh.ckpt", "--normals", folder / "few", "--output", path, "--workers", workers]
    calibrate([str(word) for word in (*words, "--device", "cpu")])
    return path


def _run(command: Sequence[str], output: Path, kill_at: int | None) -> Run:
    """Run the command to its end, or until so many rows are written; its messages are dropped unless it fails."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as result, tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen(command, stdout=result, stderr=messages)
        while process.poll() is None:
            if kill_at is not None and _rows(output) >= kill_at:
                process.kill()
                process.wait()
                return Run(True, time.monotonic() - start, float("nan"))
            time.sleep(_POLL)
        seconds = time.monotonic() - start
        result.seek(0)
        messages.seek(0)
        if process.returncode:
            raise RuntimeError(messages.read())
        return Run(False, seconds, float(result.read().splitlines()[-1]))


def _rows(output: Path) -> int:
    """Rows that are written."""
    return sum(pq.read_metadata(path).num_rows for path in output.glob("scores/part-*"))


def table(outcome: Outcome) -> str:
    """The outcome as the table of docs/archive.md."""
    rows = {
        "images, damaged ones among them": f"{outcome.images:,}, {outcome.damaged}",
        "memory beyond that of a hundred images": f"{outcome.growth:.0f} MB",
        "images a second": f"{outcome.per_second:.0f}",
        "kills of the second scoring": f"{outcome.kills}",
        "its rows": f"{outcome.rows:,}",
        "images without a row, with more than one": f"{outcome.lost}, {outcome.twice}",
        "rows with an error, at the wrong image": f"{outcome.errors}, {outcome.wrong_errors}",
        "largest difference of a score": f"{outcome.difference:.1g}",
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.archive", description=str(__doc__).splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=1, help="processes that read images")
    options = parser.parse_args()
    if sys.platform != "linux":
        parser.error("memory is read from /proc, which this system does not have")
    with tempfile.TemporaryDirectory() as folder:
        print(table(experiment(options.images, Path(folder), options.workers)))


if __name__ == "__main__":
    main()
