"""Phantoms: generated data that look like the real ones, with exact masks and no download."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pandas import DataFrame
from PIL import Image

from anomalib_memmc.data.base import MedicalDataModule, make_samples
from anomalib_memmc.data.phantom.colonoscopy import paint_colonoscopy
from anomalib_memmc.data.phantom.radiograph import paint_radiograph

logger = logging.getLogger(__name__)

Painter = Callable[[Generator, int, bool], tuple[NDArray[np.uint8], NDArray[np.bool_]]]
PAINTERS: dict[str, Painter] = {"colonoscopy": paint_colonoscopy, "radiograph": paint_radiograph}
FINDINGS = {"colonoscopy": "polyp", "radiograph": "opacity"}
FOLDERS = ("train", "normal", "anomalous")
RECIPE = 3  # raise it when the painters change, so that pictures of the old ones are not taken for the new
SMALLEST = 32


class Phantom(MedicalDataModule):
    """Generated colonoscopy frames with polyps, or chest radiographs with opacities.

    The pictures are painted once into a folder below `root` that is named after the arguments they depend on, and read
    from there afterwards. They serve to try things out and to test; results on them say nothing about patients.

    Args:
        kind: "colonoscopy" (colour, polyps) or "radiograph" (grey, opacities).
        num_train: Normal images to train with, including those held out for validation.
        num_test_normal: Normal images to test with.
        num_test_anomalous: Anomalous images to test with.
        image_size: Side of the square images, in pixels, at least 32; two equal numbers are taken too, which is what
            anomalib's ``get_datamodule`` makes of one.
        root: Folder of the painted pictures.
        **shared: Arguments of every data module, see :class:`~anomalib_memmc.data.MedicalDataModule`.

    Raises:
        ValueError: If the kind is unknown, a count is below 1 or the size below 32.

    Examples:
        >>> from anomalib_memmc.data import Phantom
        >>> datamodule = Phantom(kind="radiograph", image_size=64, num_workers=0)
        >>> datamodule.name
        'Phantom'
    """

    def __init__(
        self,
        kind: Literal["colonoscopy", "radiograph"] = "colonoscopy",
        *,
        num_train: int = 512,
        num_test_normal: int = 64,
        num_test_anomalous: int = 64,
        image_size: int | Sequence[int] = 128,
        root: Path | str = "./datasets/Phantom",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if kind not in PAINTERS:
            msg = f"kind must be one of {', '.join(PAINTERS)}, found {kind!r}."
            raise ValueError(msg)
        if min(num_train, num_test_normal, num_test_anomalous) < 1:
            msg = "num_train, num_test_normal and num_test_anomalous must each be at least 1."
            raise ValueError(msg)
        sides = {image_size} if isinstance(image_size, int) else set(image_size)
        if len(sides) != 1 or min(sides) < SMALLEST:
            msg = f"image_size must be the side of a square of at least {SMALLEST} pixels, found {image_size}."
            raise ValueError(msg)
        self.kind = kind
        self.counts = dict(zip(FOLDERS, (num_train, num_test_normal, num_test_anomalous), strict=True))
        self.image_size = sides.pop()
        self.root = Path(root)

    @property
    def recipe(self) -> dict[str, Any]:
        """The arguments that the pictures depend on."""
        return {"kind": self.kind, **self.counts, "size": self.image_size, "seed": self.split_seed, "recipe": RECIPE}

    @property
    def folder(self) -> Path:
        """Where the pictures of these arguments are."""
        digest = hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()[:8]
        return self.root / f"{self.kind}-{self.image_size}-{digest}"

    def prepare_data(self) -> None:
        """Paint the pictures, unless they are there."""
        if self.folder.is_dir():
            return
        self.root.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=".painting-", dir=self.root))
        try:
            self._paint_all(workshop)
            workshop.chmod(0o755)
            _move_into_place(workshop, self.folder)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
        logger.info("Painted %d phantoms into %s.", sum(self.counts.values()), self.folder)

    def _paint_all(self, folder: Path) -> None:
        """Paint every picture, each from its own seed, and note the recipe."""
        (folder / "masks").mkdir()
        for stream, (name, count) in enumerate(self.counts.items()):
            (folder / name).mkdir()
            for number in range(count):
                rng = np.random.default_rng((self.split_seed, stream, number))
                picture, mask = PAINTERS[self.kind](rng, self.image_size, name == "anomalous")
                Image.fromarray(picture).save(folder / name / f"{number:05d}.png", compress_level=1)
                if name == "anomalous":
                    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{number:05d}.png")
        (folder / "recipe.json").write_text(json.dumps(self.recipe, indent=2) + "\n", encoding="utf-8")

    def _make_samples(self) -> DataFrame:
        self.prepare_data()
        rows = []
        for name, count in self.counts.items():
            for number in range(count):
                row: dict[str, Any] = {
                    "image_path": str(self.folder / name / f"{number:05d}.png"),
                    "label_index": int(name == "anomalous"),
                    "split": "train" if name == "train" else "test",
                    "stratum": "normal",
                }
                if name == "anomalous":
                    row["mask_path"] = str(self.folder / "masks" / f"{number:05d}.png")
                    row["stratum"] = FINDINGS[self.kind]
                rows.append(row)
        return make_samples(rows)


def _move_into_place(source: Path, target: Path) -> None:
    """Rename a finished folder; if another process was faster, its pictures are the same."""
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise
