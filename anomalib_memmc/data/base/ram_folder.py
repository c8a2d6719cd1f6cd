"""One folder on the RAM disk for a run's processes on a machine, removed with the run."""

import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

RAM_DISK = Path("/dev/shm")
PREFIX = "anomalib_memmc_"
VARIABLE = "ANOMALIB_MEMMC_RAM_FOLDER"
TORCHRUN = "TORCHELASTIC_RUN_ID"


def ram_folder() -> Path:
    """The folder of this process and of those that it starts, made where there is none.

    A process hands it on to those that it starts by an environment variable, as Lightning's ``ddp`` does the other
    processes of a run. Those that ``torchrun`` starts share a parent, and name the folder after it. However else
    processes are started, each has its own.

    Returns:
        A folder that is removed at the end of the process that made it. What a killed run left is removed here.

    Raises:
        ValueError: If the system has no RAM disk.
        PermissionError: If another user has a folder of this name.
    """
    if not RAM_DISK.is_dir():
        msg = f"cache='memory' needs a RAM disk at {RAM_DISK}, which this system does not have; use cache='disk'."
        raise ValueError(msg)
    inherited = os.environ.get(VARIABLE)
    if inherited and Path(inherited).is_dir():
        return Path(inherited)
    _remove_orphans()
    folder = _of_torchrun() if TORCHRUN in os.environ else _own()
    os.environ[VARIABLE] = str(folder)
    return folder


def _own() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}_", dir=RAM_DISK))
    atexit.register(_remove_if_owner, folder, os.getpid())
    return folder


def _of_torchrun() -> Path:
    """The folder that all processes of this parent agree on; who comes first makes it, and removes it."""
    folder = RAM_DISK / f"{PREFIX}{os.getppid()}_torchrun"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            msg = f"The folder {folder} belongs to another user: remove it, or use cache='disk'."
            raise PermissionError(msg) from None
    else:
        atexit.register(_remove_if_owner, folder, os.getpid())
    return folder


def _remove_orphans() -> None:
    """Remove the folders of this user's runs that were killed: a name holds the process that the run ends with."""
    for folder in RAM_DISK.glob(f"{PREFIX}*_*"):
        owner = folder.name.removeprefix(PREFIX).partition("_")[0]
        with suppress(FileNotFoundError):  # another process may be removing it
            if owner.isdigit() and not Path("/proc", owner).exists() and folder.stat().st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)


def _remove_if_owner(folder: Path, owner: int) -> None:
    """Remove the folder in the process that made it, not in its forked workers."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
