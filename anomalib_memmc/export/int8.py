"""Exports of 8 bits: the network's products are quantised, and the export is refused where it ranks images worse."""

import ast
import logging
from copy import copy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from anomalib.deploy import CompressionType, ExportType
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from anomalib_memmc.export.quiet import only_errors

logger = logging.getLogger(__name__)

MAX_LOSS = 0.005
"""What an export may lose of the image AUROC of its float32 twin."""
CALIBRATION_IMAGES = 300
"""Normal training images from which the ranges of the activations are taken, or all where there are fewer."""
_SCOPES = "pkg.torch.onnx.name_scopes"
_NOT_THE_NETWORK = r"(?!model\.network\.(encoder|decoder)\.).*"
"""Names of all nodes but those of encoder and decoder: pre-processing and score stay in float32."""
_ADVICE = "Nothing was written; leave --compression_type out for float32."
_EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def require_openvino(export_type: ExportType | str, compression_type: CompressionType | str | None) -> None:
    """Refuse a compression that an export of another kind would leave out, and nothing would say so.

    Args:
        export_type: The kind of export.
        compression_type: The compression, or None.

    Raises:
        ValueError: If there is one, and the export is not OpenVINO's.
    """
    if compression_type is not None and ExportType(export_type) is not ExportType.OPENVINO:
        msg = (
            f"--compression_type {CompressionType(compression_type).name} is of OpenVINO exports: take "
            f"--export_type openvino, or leave --compression_type out."
        )
        raise ValueError(msg)


def name_nodes(path: Path) -> None:
    """Name the nodes of an ONNX file after the modules they come from, as in ``model.network.encoder.norm/node_add``.

    Args:
        path: The file, as PyTorch's exporter wrote it.
    """
    import onnx  # noqa: PLC0415  (optional)

    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        scopes = [entry.value for entry in node.metadata_props if entry.key == _SCOPES]
        modules = ast.literal_eval(scopes[0])[:-1] if scopes else []  # the last is the operator
        node.name = f"{modules[-1] if modules else ''}/{node.name}"
    onnx.save(model, path)


class Quantisation:
    """Turns an OpenVINO model into one of 8 bits, and compares the two on a test part.

    Images are scored one by one, as they are: those of a test part may differ in size.

    Args:
        kind: ``INT8_PTQ``: weights and activations are quantised, with the ranges that normal training images give.
        datamodule: A data module of anomalib, or None.
        size: Height and width that the export takes; None for any.

    Attributes:
        found: What the comparison found, plain values; empty before :meth:`apply`.

    Raises:
        ValueError: If it is another kind, there is no data module, or its test part lacks normal or anomalous images.
    """

    def __init__(self, kind: CompressionType, datamodule: Any, size: tuple[int, int] | None) -> None:
        if kind is not CompressionType.INT8_PTQ:
            msg = f"--compression_type {kind.name} is not offered: take INT8_PTQ, refused where it loses AUROC."
            raise ValueError(msg)
        if datamodule is None:
            msg = (
                "An export of 8 bits is compared with its float32 twin on a test part: name the data, as in "
                "--data Folder --data.init_args.root DIR."
            )
            raise ValueError(msg)
        datamodule.setup()
        self.size = size
        self.name, self.test = datamodule.name, datamodule.test_data
        self.labels = np.asarray(self.test.samples["label_index"]).astype(int)
        if len(np.unique(self.labels)) < 2:
            msg = (
                "An export of 8 bits is compared with its float32 twin by AUROC, which takes normal and anomalous test "
                f"images: {self.name} has {(self.labels == 0).sum()} and {(self.labels == 1).sum()}."
            )
            raise ValueError(msg)
        self.normal: Any = getattr(datamodule, "normal_data", None)
        if self.normal is None:  # a data module of anomalib's own, whose training images may be changed at random
            self.normal = copy(datamodule.train_data)
            self.normal.augmentations = datamodule.val_augmentations
        self.found: dict[str, Any] = {}

    def apply(self, model: Any) -> Any:
        """Quantise encoder and decoder; what makes scores of their pixels stays in float32.

        Args:
            model: The OpenVINO model, whose nodes have the names of :func:`name_nodes`.

        Returns:
            The model of 8 bits; the one given may be changed.

        Raises:
            ValueError: If it loses more than ``MAX_LOSS`` of the image AUROC, or gives an image no score.
        """
        import nncf  # noqa: PLC0415  (optional)

        logger.info("Comparing the export with its float32 twin on %d test images of %s.", len(self.labels), self.name)
        full = self._scores(model)
        scope = nncf.IgnoredScope(patterns=[_NOT_THE_NETWORK], validate=False)
        count = min(CALIBRATION_IMAGES, len(self.normal))
        chosen = np.linspace(0, len(self.normal) - 1, count).round().astype(int)
        images = nncf.Dataset(chosen, lambda index: self._image(self.normal[index]))
        transformer = nncf.ModelType.TRANSFORMER
        with only_errors("nncf"):  # it would name every node that is not quantised
            small = nncf.quantize(model, images, subset_size=count, model_type=transformer, ignored_scope=scope)
        self.found = {
            "type": CompressionType.INT8_PTQ.value,
            "nncf": version("nncf"),
            "calibration_images": count,
            **compare(full, self._scores(small), self.labels, self.name),
        }
        return small

    def _scores(self, model: Any) -> NDArray[np.float64]:
        """Scores and verdicts of all test images (N, 2)."""
        import openvino  # noqa: PLC0415  (optional)

        compiled = openvino.Core().compile_model(model, "CPU", _EXACT)
        rows = []
        for index in range(len(self.test)):
            outputs = compiled(self._image(self.test[index]))
            rows.append([float(outputs[name][0]) for name in ("pred_score", "pred_label")])
        return np.array(rows)

    def _image(self, item: Any) -> NDArray[np.float32]:
        """An item's image as the export is given it (1, C, H, W)."""
        image = item.image.as_subclass(Tensor)[None].float()
        return (image if self.size is None else resize(image, list(self.size), antialias=True)).numpy()


def compare(
    full: NDArray[np.float64], small: NDArray[np.float64], labels: NDArray[np.int_], name: str
) -> dict[str, Any]:
    """Compare the scores of an export of 8 bits with those of its float32 twin.

    Args:
        full: Scores and verdicts of float32 (N, 2).
        small: Those of 8 bits (N, 2).
        labels: 1 for anomalous images (N,).
        name: The name of the data, for the error.

    Returns:
        Plain values: number of images, both AUROCs, largest difference of scores, number of verdicts that differ.

    Raises:
        ValueError: If 8 bits lose more than ``MAX_LOSS`` of the AUROC, or either leaves an image without a score.
    """
    for export, scores in (("The float32 twin of the export", full), ("The export of 8 bits", small)):
        if (missing := int((~np.isfinite(scores)).any(axis=1).sum())) > 0:
            msg = f"{export} gives {missing} of {len(labels)} test images of {name} no score: {_ADVICE}"
            raise ValueError(msg)
    areas = [float(roc_auc_score(labels, scores[:, 0])) for scores in (full, small)]
    if areas[0] - areas[1] > MAX_LOSS:
        msg = (
            f"On the test part of {name} the export of 8 bits has an image AUROC of {areas[1]:.4f}, its float32 twin "
            f"{areas[0]:.4f}: it loses more than {MAX_LOSS}. {_ADVICE}"
        )
        raise ValueError(msg)
    return {
        "data": name,
        "normal_images": int((labels == 0).sum()),
        "anomalous_images": int((labels == 1).sum()),
        "image_AUROC": {"float32": areas[0], "int8": areas[1]},
        "largest_score_difference": float(np.abs(full[:, 0] - small[:, 0]).max()),
        "verdicts_that_differ": int((full[:, 1] != small[:, 1]).sum()),
    }
