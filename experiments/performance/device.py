"""The GPU where there is one, else the CPU; and the peak of a process's memory."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend

from anomalib_memmc.memory.resident import peak_memory_mb

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def name() -> str:
    """The device, in words."""
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def bfloat16(enabled: bool = True) -> torch.autocast:
    """Products in bfloat16, as with Lightning's ``bf16-mixed``."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=enabled)


def attention_kernel(heads: int, queries: int, keys: int, width: int, dtype: torch.dtype) -> str:
    """The kernel that torch takes for an attention of these sizes, such as FLASH_ATTENTION."""
    query = torch.empty(1, heads, queries, width // heads, dtype=dtype, device=DEVICE)
    key = torch.empty(1, heads, keys, width // heads, dtype=dtype, device=DEVICE)
    return SDPBackend(torch._fused_sdp_choice(query, key, key)).name


def peak_gib() -> float:
    """The most memory that this process has had at once in GiB; on a GPU, of tensors on it."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return peak_memory_mb() * 1e6 / 2**30


def peak_since(before: float, call: Callable[[], object]) -> float:
    """GiB by which calling something twice raises the peak of this process above what it was before."""
    call()
    call()
    return peak_gib() - before


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function of a module, called in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)
