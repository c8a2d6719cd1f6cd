"""What a computation is asked to run on, and whether that is here."""

from typing import Any

import torch

_CUDA, _MPS = "an NVIDIA or AMD GPU", "a GPU of Apple"


def require_accelerator(name: Any) -> None:
    """Refuse an accelerator of Lightning's trainer that this machine has not.

    Args:
        name: ``trainer.accelerator`` as it was given.

    Raises:
        ValueError: If it names a GPU, and PyTorch finds none.
    """
    wanted = {"gpu": f"{_CUDA} or {_MPS}", "cuda": _CUDA, "mps": _MPS}
    if name in wanted and name not in _available():
        msg = f"trainer.accelerator is {name}: {_missing(wanted[name])} --trainer.accelerator auto takes what is there."
        raise ValueError(msg)


def require_device(name: str) -> None:
    """Refuse a device that this machine has not.

    Args:
        name: What was given for ``--device``, such as ``cuda`` or ``cuda:1``.

    Raises:
        ValueError: If PyTorch knows no such device, or does not find it here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        msg = f"--device {name}: PyTorch knows no such device. Give cpu, cuda or cuda:1."
        raise ValueError(msg) from error
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        return
    if device.type in {"cuda", "mps"} and (device.type == "cuda" or "mps" not in _available()):
        kind = f"{_CUDA} of the number {device.index}" if device.index else {"cuda": _CUDA, "mps": _MPS}[device.type]
        msg = f"--device {name}: {_missing(kind)} Without --device the best that is there is taken."
        raise ValueError(msg)


def _available() -> set[str]:
    """Names of Lightning's accelerators with a GPU that this machine has."""
    names = [name for name, there in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if there.is_available()]
    return {*names, "gpu"} if names else set()


def _missing(kind: str) -> str:
    return (
        f"PyTorch {torch.__version__} finds no such device here ({kind}). It needs the device's driver, and a PyTorch "
        "that is built for it."
    )
