"""A table of every image's score, and what it says."""

import logging
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from rich.console import Console

from anomalib_memmc.data.io.text import printable
from anomalib_memmc.gathering import gather_objects
from anomalib_memmc.metrics.conformal import p_values, percentiles
from anomalib_memmc.model.thresholds import score_threshold
from anomalib_memmc.reporting.baselines import MEASURES, aspect_ratio, file_bytes
from anomalib_memmc.reporting.comparisons import compare, judged
from anomalib_memmc.reporting.false_alarms import false_alarms
from anomalib_memmc.reporting.summary import clamped_auroc, render
from anomalib_memmc.resuming.whole_file import replaced

logger = logging.getLogger(__name__)

_LOADER = "loader"
"""Column of a row for which loader the image came from, until the rows are in order."""


class PredictionTable(Callback):
    """Write every image's prediction to a CSV file and print how well the scores do. For any anomalib model.

    Testing writes ``predictions.csv`` and prediction ``predict.csv`` into the run's folder
    (``trainer.default_root_dir``), replacing an older file of that name. Rows are in the data set's order, also where
    several processes share the images. Columns:

    - ``image_path`` (bytes that are not UTF-8 as backslash escapes), ``stratum`` and ``group`` (where the data module's
      samples tell), ``gt_label`` (0 or 1, empty where unknown);
    - ``score`` as the model gives it, higher = more unusual, and ``threshold``, above which an image is called
      anomalous: ``label`` is then 1, else 0. Threshold and label are empty where none was learnt;
    - ``percentile``, how many per cent of the held-out normal images score lower, and ``p_value``, the conformal
      p-value, where the post-processor knows those images' scores;
    - ``spread``, the standard deviation over the scorer's masks of the mean error, where there are masks;
    - ``pred_score``, the normalised score, as the post-processor gives it;
    - with ``baselines``: ``mean_intensity``, ``sharpness``, ``noise``, ``file_bytes``, ``aspect_ratio``.

    Where labels are known, image AUROC and average precision follow on the terminal, overall and per stratum, each
    beside the trivial baseline that does best on the same images; and for each baseline that by itself separates the
    classes, the scores' matched AUROC among images alike in it. Then come the false alarms beside the promised rate.
    They are computed from ``score``: anomalib's post-processor clamps, which makes ties; the AUROC it leaves is printed
    too where it differs. ``score`` and what is compared with it are missing if the callback stands behind the model's
    post-processor in the trainer's list; those given to the trainer or the engine stand before it. Trouble with table
    or summary is logged and never ends the run.

    Args:
        baselines: Also measure the trivial baselines.
        max_rows: Most comparisons to print.

    Raises:
        ValueError: If ``max_rows`` is smaller than 1.

    Examples:
        >>> from anomalib.engine import Engine
        >>> engine = Engine(callbacks=[PredictionTable()])
    """

    def __init__(self, baselines: bool = True, max_rows: int = 12) -> None:
        super().__init__()
        if max_rows < 1:
            msg = f"max_rows must be at least 1, got {max_rows}."
            raise ValueError(msg)
        self.baselines = baselines
        self.max_rows = max_rows
        self._rows: list[dict[str, Any]] = []
        self._pending: tuple[Any, torch.Tensor | None, int] | None = None
        self._labels_are_the_models = False

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start an empty table."""
        del trainer, pl_module
        self._rows, self._pending = [], None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start an empty table."""
        self.on_test_start(trainer, pl_module)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note a batch; it is read once the callbacks after this one, post-processing among them, are done with it."""
        del batch, batch_idx
        self._flush()
        is_before = self._is_before_post_processor(trainer, pl_module)
        self._labels_are_the_models = is_before and getattr(outputs, "pred_label", None) is not None
        self._pending = (outputs, _scores(outputs) if is_before else None, dataloader_idx)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """As for a test batch."""
        self.on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table and print the summary."""
        self._finish(trainer, pl_module, "predictions.csv")

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table and, where labels are known, print the summary."""
        self._finish(trainer, pl_module, "predict.csv")

    def _is_before_post_processor(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Whether this callback sees a batch before the model's post-processor changes it."""
        post_processor = getattr(pl_module, "post_processor", None)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callback is self:
                return True
            if callback is post_processor:
                return False
        return False

    def _flush(self) -> None:
        """Turn the batch noted last into rows."""
        if self._pending is None:
            return
        (batch, raw, loader), self._pending = self._pending, None
        scores, spread = _scores(batch), getattr(getattr(batch, "scores", None), "score_std", None)
        if scores is None:
            return
        columns: dict[str, Any] = {
            "image_path": getattr(batch, "image_path", None) or [""] * len(scores),
            "gt_label": _integers(getattr(batch, "gt_label", None), len(scores)),
            **({} if raw is None else {"score": raw.tolist()}),
            "label": _integers(getattr(batch, "pred_label", None), len(scores)),
            **({} if spread is None else {"spread": spread.float().tolist()}),
            "pred_score": scores.tolist(),
            _LOADER: [loader] * len(scores),
        }
        images = getattr(batch, "image", None)
        if self.baselines and isinstance(images, torch.Tensor) and images.ndim == 4:
            columns |= {name: measure(images).tolist() for name, measure in MEASURES.items()}
        self._rows.extend(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))

    def _finish(self, trainer: Trainer, pl_module: LightningModule, filename: str) -> None:
        """Gather, write, print."""
        self._flush()
        rows = _gathered(self._rows)
        self._rows = []
        if not trainer.is_global_zero:
            return
        if not rows:
            logger.warning("No predictions to tabulate: the model gave neither scores nor anomaly maps.")
            return
        try:
            post_processor = getattr(pl_module, "post_processor", None)
            table = self._table(trainer, rows, post_processor)
            path = Path(trainer.default_root_dir) / filename
            with replaced(path) as part:
                table.to_csv(part, index=False)
            self._print(table, path, getattr(post_processor, "promise", None))
        except Exception:  # a report must not cost the run its results
            logger.exception("The prediction table could not be finished.")

    def _table(self, trainer: Trainer, rows: list[dict[str, Any]], post_processor: Any) -> pd.DataFrame:
        """Make one row an image, with strata, verdicts and file baselines."""
        files = {printable(row["image_path"]): row["image_path"] for row in rows}
        table = pd.DataFrame([{**row, "image_path": printable(row["image_path"])} for row in rows])
        table = table[~(table["image_path"].duplicated() & (table["image_path"] != ""))].reset_index(drop=True)
        for column in ("gt_label", "label"):
            table[column] = table[column].astype("Int64")
        self._judge(table, post_processor)
        for column in ("group", "stratum"):
            if known := _of_samples(trainer, column):
                table.insert(1, column, [known.get(path, "") for path in table["image_path"]])
        if self.baselines:
            paths = [files[path] for path in table["image_path"]]
            table["file_bytes"] = [file_bytes(path) if path else float("nan") for path in paths]
            table["aspect_ratio"] = [aspect_ratio(path) if path else float("nan") for path in paths]
        return table

    def _judge(self, table: pd.DataFrame, post_processor: Any) -> None:
        """Add threshold and ranks among the normal images; empty labels that no threshold stands behind."""
        threshold = None if self._labels_are_the_models else score_threshold(post_processor)
        if threshold is None and not self._labels_are_the_models:
            table["label"] = pd.array([pd.NA] * len(table), dtype="Int64")  # anomalib compares raw scores with 0.5
        if "score" not in table.columns:
            return
        place = table.columns.get_loc("label")
        table.insert(place, "threshold", float("nan") if threshold is None else threshold)
        normals = getattr(post_processor, "normal_scores", torch.empty(0)).cpu().numpy()
        if len(normals):
            table.insert(place + 2, "percentile", percentiles(table["score"], normals))
            table.insert(place + 3, "p_value", p_values(table["score"], normals))

    def _print(self, table: pd.DataFrame, path: Path, promise: torch.Tensor | None) -> None:
        """Print the summary, or why there is none."""
        console = Console(markup=False, emoji=False)
        console.print()
        comparisons = compare(judged(table))
        if comparisons:
            console.print(render(comparisons, self.max_rows))
            clamped = clamped_auroc(table)
            if clamped is not None:
                console.print(
                    f"AUROC after the model's post-processing: {clamped:.3f}. It ties scores; the tables use raw ones."
                )
        elif table["gt_label"].notna().any():
            console.print(_why_no_auroc(table))
        normals = table[(table["gt_label"] == 0) & table["label"].notna()]
        alarms = false_alarms(int(normals["label"].sum()), len(normals), promise)
        if alarms is not None:
            console.print(str(alarms), style="bold" if alarms.beyond_chance else None)
        console.print(f"{len(table)} predictions: {path}", soft_wrap=True)


def _why_no_auroc(table: pd.DataFrame) -> str:
    """Why a table with labels allows no comparison."""
    labels = judged(table)["label"]
    found = "no image has a finite score" if labels.empty else f"all are {'anomalous' if labels.all() else 'normal'}"
    return (
        f"No AUROC: it takes images of both classes, and {found}. The metrics of MemMCMAE are nan where they are not "
        "defined; those of anomalib are mostly 0 there, which means nothing."
    )


def _scores(batch: Any) -> torch.Tensor | None:
    """Image scores of a batch, shape (B,), on the CPU: ``pred_score``, else the maps' maxima, as in anomalib."""
    scores = getattr(batch, "pred_score", None)
    if scores is not None:
        return scores.detach().float().flatten().cpu()
    maps = getattr(batch, "anomaly_map", None)
    return None if maps is None else maps.detach().float().flatten(1).amax(dim=1).cpu()


def _integers(labels: torch.Tensor | None, count: int) -> list[int | None]:
    """Labels as 0 and 1, or that many ``None``."""
    return [None] * count if labels is None else labels.flatten().int().tolist()


def _of_samples(trainer: Trainer, column: str) -> dict[str, str]:
    """A column of the test samples by image path; empty where the data module does not know it or it tells nothing."""
    samples = getattr(getattr(getattr(trainer, "datamodule", None), "test_data", None), "samples", None)
    if not isinstance(samples, pd.DataFrame) or column not in samples.columns:
        return {}
    paths = [printable(path) for path in samples["image_path"]]
    values = ["" if pd.isna(value) else printable(value) for value in samples[column]]
    if all(value in {"", path} for path, value in zip(paths, values, strict=True)):  # each image a group of its own
        return {}
    return dict(zip(paths, values, strict=True))


def _gathered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of all processes in the data set's order: distributed samplers deal the images of a loader out in turn."""
    placed = [
        (row.pop(_LOADER), turn, rank, row)
        for rank, part in enumerate(gather_objects(rows))
        for turn, row in enumerate(part)
    ]
    return [row for *_, row in sorted(placed, key=itemgetter(0, 1, 2))]
