"""Ray (extra ``cluster``): where it is imported, and how a cluster is reached."""

import re
import socket
from typing import Any

from anomalib_memmc.extras import missing_extra

_PATIENCE = 10.0  # seconds


def require_ray() -> Any:
    """Ray, with its data library.

    Raises:
        RuntimeError: If it is not installed.
    """
    try:
        import ray  # noqa: PLC0415  (optional)
        import ray.data  # noqa: PLC0415
    except ImportError as error:
        msg = missing_extra("cluster", "--ray needs Ray, here and on every machine of the cluster", "leave --ray out")
        raise RuntimeError(msg) from error
    return ray


def connect(ray: Any, address: str) -> None:
    """Reach a cluster.

    Args:
        ray: What :func:`require_ray` gave.
        address: ``HOST:PORT``, ``ray://HOST:PORT``, ``auto`` for the cluster that this machine is in, ``local`` to
            start one on this machine alone.

    Raises:
        ConnectionError: If there is none.
    """
    try:
        _require_listener(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises many kinds
        msg = f"There is no Ray cluster at {address!r}: {error}. Start one with ray start --head, or leave --ray out."
        raise ConnectionError(msg) from error


def _require_listener(address: str) -> None:
    """Ask a ``HOST:PORT`` whether anything listens there; Ray itself would go on asking for minutes.

    Raises:
        OSError: If nothing does.
    """
    if match := re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address):
        socket.create_connection((match[1], int(match[2])), timeout=_PATIENCE).close()
