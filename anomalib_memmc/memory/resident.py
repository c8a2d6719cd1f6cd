"""What a process has taken so far."""

import sys
from pathlib import Path


def peak_memory_mb() -> float:
    """Return this process's largest resident memory so far, in 10^6 bytes; NaN where the system does not tell."""
    return _peak_by_proc() or _peak_by_rusage()


def _peak_by_proc() -> float | None:
    """As Linux says it. Its getrusage also counts what the process had that started this one."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), None)


def _peak_by_rusage() -> float:
    try:
        import resource  # noqa: PLC0415
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
