"""What a process has taken so far."""

import sys


def peak_memory_mb() -> float:
    """Return this process's largest resident memory so far, in 10^6 bytes; NaN where the system does not tell."""
    try:
        import resource  # noqa: PLC0415
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
