"""Read a file of ``torch.save`` without running anything in it, and say in one message what is wrong with it."""

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def read_torch_file(path: Path, safe_globals: Sequence[Any] = (), mmap: bool = False) -> Any:
    """Read tensors and plain values.

    PyTorch does not compare the checksums that its files hold, so that damaged weights would be taken for weights. Here
    they are compared. A file that names functions or classes is refused: PyTorch's own advice, ``weights_only=False``,
    would run them.

    Args:
        path: The file.
        safe_globals: Classes that it may name, as ``torch.serialization.safe_globals`` takes them.
        mmap: Leave the tensors in the file until they are used.

    Returns:
        What was saved, its tensors on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a folder, damaged, no file of ``torch.save``, or holds code.
    """
    require_file(path)
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _require_checksums(path)
    with torch.serialization.safe_globals(list(safe_globals)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a file of another kind may be
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and is_zip)
        except Exception as error:  # a broken file can fail in many ways
            if code := _named_code(path):
                msg = (
                    f"{path} holds more than weights and plain values: {', '.join(code)}. Loading that would run code, "
                    "so the file is refused. Save the state_dict alone, or take the checkpoint that the training left."
                )
            else:
                msg = (
                    f"{path} cannot be read as a file of torch.save: it is damaged, or of another kind. Copy it again."
                )
            raise ValueError(msg) from error


def require_file(path: Path) -> None:
    """Refuse what is no file.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If a folder is.
    """
    if not path.exists():
        msg = f"There is no checkpoint {path}."
        raise FileNotFoundError(msg)
    if path.is_dir():
        msg = f"{path} is a directory; give the checkpoint file in it, such as model.ckpt or model.safetensors."
        raise ValueError(msg)


def _require_checksums(path: Path) -> None:
    """Compare the checksum of each part of the archive that PyTorch writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # a damaged archive raises many kinds
        damaged = str(error)
    if damaged:
        msg = f"{path} cannot be read: it is damaged, since checksums in it do not match ({damaged}). Copy it again."
        raise ValueError(msg)


def _named_code(path: Path) -> list[str]:
    """The functions and classes that a file names and that are not known to be harmless."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # not of this kind
        return []
