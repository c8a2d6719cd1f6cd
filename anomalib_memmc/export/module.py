"""Exports of MemMCMAE: what the exported graph computes, and what is written beside it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from anomalib.data import InferenceBatch
from anomalib.deploy import CompressionType
from torch import Tensor

from anomalib_memmc.export.input_check import fits, refuse, without_misfits
from anomalib_memmc.export.int8 import Quantisation, name_nodes
from anomalib_memmc.export.metadata import describe
from anomalib_memmc.export.papers import add_to_onnx, write_papers
from anomalib_memmc.export.quiet import only_errors
from anomalib_memmc.extras import Extra, missing_extra
from anomalib_memmc.model.tissue import post_process

logger = logging.getLogger(__name__)

OPSET = 18
"""The oldest set of ONNX operators that PyTorch's exporter writes without a conversion, which fails."""
_NOISY = ("onnx_ir", "onnxscript")
_AXES = {0: "batch_size", 1: "channels", 2: "height", 3: "width"}


class Exportable:
    """Mixed into an anomalib model: its exports take what they can score, and have papers.

    An exported graph is also given a grey image where the network takes one channel. An image with pixels outside
    [0, 1] gets NaN as score and map, and is not called normal; called in Python, the model raises an error.
    """

    model: Any
    pre_processor: Any
    post_processor: Any

    @property
    def input_channels(self) -> tuple[int, ...]:
        """Numbers of channels that an image may have; a network of one channel averages colours."""
        channels = self.model.network.in_channels
        return (1, 3) if channels == 1 else (channels,)

    def forward(self, batch: Tensor, *args: Any, **kwargs: Any) -> InferenceBatch:
        """What an exported model does; unlike anomalib's, the post-processor may look at the images.

        Args:
            batch: Images (B, C, H, W) in [0, 1], of any size.
            *args: Unused.
            **kwargs: Unused.

        Returns:
            Scores and maps, post-processed.

        Raises:
            ValueError: If pixels or channels are not those that the model takes; an exported graph gives NaN instead.
        """
        del args, kwargs
        is_traced = torch.compiler.is_compiling()
        if not is_traced:
            refuse(batch, self.input_channels)
        images = self.pre_processor(batch) if self.pre_processor else batch
        seen = images.mean(dim=1, keepdim=True) if 1 in self.input_channels else images
        predictions = post_process(self.post_processor, self.model(seen), images)
        return without_misfits(predictions, fits(batch, self.input_channels)) if is_traced else predictions

    def to_torch(self, export_root: Path | str, model_file_name: str = "model") -> Path:
        """As anomalib's, with ``metadata.json`` and ``README.md`` beside the file.

        Args:
            export_root: Folder of all exports.
            model_file_name: Name of the file.

        Returns:
            The file.
        """
        self.eval()  # type: ignore[attr-defined]  # the file holds the mode, and in training there are no scores
        path: Path = super().to_torch(export_root, model_file_name)  # type: ignore[misc]
        self._finish("torch", [path], None)
        return path

    def to_onnx(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        papers: bool = True,
        **kwargs: Any,
    ) -> Path:
        """As anomalib's, quietly, with metadata within the file and beside it.

        Args:
            export_root: Folder of all exports.
            model_file_name: Name of the file; weights that have no room in it are in ``NAME.onnx.data``.
            input_size: Height and width of the images; None for any.
            papers: Write the metadata; ``to_openvino`` needs names of nodes instead in the file that it converts.
            **kwargs: Arguments of ``torch.onnx.export``.

        Returns:
            The file.

        Raises:
            RuntimeError: If onnx or onnxscript is not installed.
        """
        _require("onnx", "onnxscript")
        if 1 in self.input_channels and not kwargs.keys() & {"dynamic_axes", "dynamic_shapes"}:
            free = _AXES if input_size is None else {axis: _AXES[axis] for axis in (0, 1)}
            kwargs["dynamic_axes"] = {"input": free}
        with only_errors(*_NOISY):
            path: Path = super().to_onnx(  # type: ignore[misc]
                export_root, model_file_name, input_size, **{"opset_version": OPSET, "verbose": False, **kwargs}
            )
        if papers:
            add_to_onnx(path, self._metadata("onnx", input_size))
            self._finish("onnx", [path, path.with_name(f"{path.name}.data")], input_size)
        else:
            name_nodes(path)
        return path

    def to_openvino(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> Path:
        """As anomalib's, quietly, with ``metadata.json`` and ``README.md`` beside the files.

        With ``compression_type`` ``INT8_PTQ`` the export is of 8 bits, and is compared with its float32 twin on the
        test part of ``datamodule``: see :class:`~anomalib_memmc.export.int8.Quantisation`.

        Args:
            export_root: Folder of all exports.
            model_file_name: Name of the files.
            input_size: Height and width of the images; None for any.
            **kwargs: Further arguments of anomalib's method, such as ``compression_type`` and ``datamodule``.

        Returns:
            The ``.xml`` file.

        Raises:
            RuntimeError: If onnx, onnxscript or openvino is not installed, or nncf where it is needed.
            ValueError: If an export of 8 bits loses AUROC or cannot be compared; then nothing is written.
        """
        _require("onnx", "onnxscript", "openvino")
        kind = CompressionType(kwargs.get("compression_type") or CompressionType.FP16)
        quantisation = None
        if kind is not CompressionType.FP16:
            _require("nncf", extra="int8")
            quantisation = kwargs["datamodule"] = Quantisation(kind, kwargs.get("datamodule"), input_size)
        kwargs["onnx_kwargs"] = {**(kwargs.get("onnx_kwargs") or {}), "papers": False}
        with _without_empty_folders(Path(export_root) / "weights" / "openvino"):
            path: Path = super().to_openvino(export_root, model_file_name, input_size, **kwargs)  # type: ignore[misc]
        stored: dict[str, Any] = {"weights": "float16"} if kwargs.get("compression_type") else {}
        if quantisation is not None:
            stored = {"int8": quantisation.found}
        self._finish("openvino", [path, path.with_suffix(".bin")], input_size, stored)
        return path

    def _compress_ov_model(self, model: Any, compression_type: Any, datamodule: Any, *args: Any) -> Any:
        """The hook between conversion and saving; what it is given as data is a ``Quantisation``."""
        del compression_type, args
        return datamodule.apply(model)

    def _metadata(self, kind: str, size: tuple[int, int] | None) -> dict[str, Any]:
        """Describe an export; the shapes of outputs are those of one image, whose number may vary."""
        device = next(self.model.parameters()).device
        image = torch.zeros(1, self.input_channels[-1], *self.model.network.image_size, device=device)
        with torch.no_grad():
            found = self.eval()(image)._asdict()  # type: ignore[attr-defined]
        shapes: dict[str, list[int | str]] = {
            name: ["batch", *value.shape[1:]] for name, value in found.items() if value is not None
        }
        return describe(self, kind, shapes, size)

    def _finish(
        self, kind: str, files: list[Path], size: tuple[int, int] | None, stored: dict[str, Any] | None = None
    ) -> None:
        """Write the papers, with how the weights are stored where it is not in float32, and say where all is."""
        there = [file for file in files if file.is_file()]
        papers = write_papers(there, self._metadata(kind, size) | (stored or {}))
        names = ", ".join(file.name for file in [*there, *papers])
        logger.info("Exported to %s: %s", there[0].parent, names)


def _require(*packages: str, extra: Extra = "export") -> None:
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise RuntimeError(missing_extra(extra, f"This export needs {' and '.join(missing)}"))


@contextmanager
def _without_empty_folders(folder: Path) -> Iterator[None]:
    """Remove a folder and those around it, where an error left them empty and they were not there before."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    except BaseException:
        for each in made:
            with suppress(OSError):  # it is not empty, or was never made
                each.rmdir()
        raise
