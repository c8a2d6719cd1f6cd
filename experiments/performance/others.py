"""What the model is timed against: Hugging Face's MAE, its own exports in two runtimes, PaDiM and PatchCore."""

from pathlib import Path

import onnxruntime
import openvino
import torch
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from torch import Tensor
from torch.export import Dim
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from anomalib_memmc import MemMCMAEModel
from experiments.performance.device import DEVICE
from experiments.performance.timing import Call

BACKBONE = "tf_efficientnet_lite0"
CORESET = 10_000  # patches in PatchCore's memory bank


def hugging_face(model: MemMCMAEModel) -> ViTMAEForPreTraining:
    """A plain MAE of the same sizes as a model, independent of ours, in evaluation mode."""
    ours = model.network.init_args
    config = ViTMAEConfig(
        image_size=ours["image_size"],
        patch_size=ours["patch_size"],
        num_channels=ours["in_channels"],
        hidden_size=ours["encoder_dim"],
        num_hidden_layers=ours["encoder_depth"],
        num_attention_heads=ours["encoder_heads"],
        intermediate_size=4 * ours["encoder_dim"],
        decoder_hidden_size=ours["decoder_dim"],
        decoder_num_hidden_layers=ours["decoder_depth"],
        decoder_num_attention_heads=ours["decoder_heads"],
        decoder_intermediate_size=4 * ours["decoder_dim"],
        mask_ratio=model.mask_ratio,
    )
    return ViTMAEForPreTraining(config).eval().to(DEVICE)


def exports(model: MemMCMAEModel, images: Tensor, folder: Path) -> dict[str, Call]:
    """Export a model to ONNX with a dynamic batch; OpenVINO and ONNX Runtime then score by it in float32.

    Args:
        model: The model in evaluation mode.
        images: Images (B, C, H, W) that the calls score.
        folder: Where the export goes.

    Returns:
        Calls that score the images, with as many threads as torch has.
    """
    file, pixels, threads = folder / "model.onnx", images.numpy(), torch.get_num_threads()
    shapes = ({0: Dim("batch", min=1, max=64)},)
    example = images.expand(2, -1, -1, -1) if len(images) == 1 else images
    torch.onnx.export(model, (example,), file, input_names=["input"], dynamo=True, dynamic_shapes=shapes, verbose=False)
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(file, "CPU", hints)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would slow down whose turn is next
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return {"OpenVINO": lambda: compiled(pixels), "ONNX Runtime": lambda: session.run(None, {"input": pixels})}


def baselines(images: Tensor) -> dict[str, Call]:
    """PaDiM and PatchCore of anomalib with random weights, which take as long as trained ones."""
    colour = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    padim = PadimModel(BACKBONE, ["blocks.1", "blocks.2", "blocks.4"], pre_trained=False, n_features=100).eval()
    patchcore = PatchcoreModel(["blocks.2", "blocks.4"], BACKBONE, pre_trained=False).eval()
    side = images.shape[-1] // 4
    padim.gaussian.mean = torch.zeros(100, side * side)
    padim.gaussian.inv_covariance = torch.eye(100).repeat(side * side, 1, 1)
    patchcore.memory_bank = torch.rand(CORESET, 40 + 112)
    padim.to(DEVICE)
    patchcore.to(DEVICE)
    return {"PaDiM": lambda: padim(colour), "PatchCore": lambda: patchcore(colour)}
