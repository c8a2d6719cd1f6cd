"""The folder on the RAM disk: one for the processes of a run, gone with the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anomalib_memmc.data.base import ram_folder
from anomalib_memmc.data.base.cache import ImageCache

# the file alone: importing the package would take seconds
PRINT = f"import runpy; print(runpy.run_path({ram_folder.__file__!r})['ram_folder'](), flush=True); "
WAIT = "import sys; sys.stdin.readline()"
START = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"

pytestmark = pytest.mark.skipif(not ram_folder.RAM_DISK.is_dir(), reason="this system has no RAM disk")


class Program:
    """A program that prints a folder or more and goes on until it is told to end, or killed."""

    def __init__(self, code: str, *arguments: str, **variables: str) -> None:
        outside = (ram_folder.VARIABLE, ram_folder.TORCHRUN)
        environment = {name: value for name, value in os.environ.items() if name not in outside}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, **variables},
        )

    def folder(self) -> Path:
        assert self.process.stdout is not None
        return Path(self.process.stdout.readline().strip())

    def end(self) -> None:
        self.process.communicate("\n", timeout=120)
        assert self.process.returncode == 0


def test_a_program_and_those_it_starts_share_one_which_it_removes() -> None:
    program = Program(PRINT + START + "; " + WAIT, PRINT)
    own, of_child = program.folder(), program.folder()
    assert own == of_child
    assert own.parent == ram_folder.RAM_DISK
    assert own.stat().st_mode & 0o777 == 0o700
    program.end()
    assert not own.exists()


def test_two_programs_have_their_own() -> None:
    one, other = Program(PRINT + WAIT), Program(PRINT + WAIT)
    assert one.folder() != other.folder()
    one.end()
    other.end()


def test_processes_of_torchrun_share_one() -> None:
    programs = [Program(PRINT + WAIT, **{ram_folder.TORCHRUN: "none"}) for _ in range(2)]
    folders = {program.folder() for program in programs}
    assert len(folders) == 1
    for program in programs:
        program.end()
    assert not folders.pop().exists()


def test_what_a_killed_program_left_is_removed_by_the_next() -> None:
    killed = Program(PRINT + WAIT)
    left = killed.folder()
    killed.process.kill()
    killed.process.wait()
    assert left.is_dir()
    Program(PRINT).process.wait(timeout=120)
    assert not left.exists()


def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ram_folder, "RAM_DISK", tmp_path)
    monkeypatch.setenv(ram_folder.TORCHRUN, "none")
    monkeypatch.delenv(ram_folder.VARIABLE, raising=False)
    (tmp_path / f"{ram_folder.PREFIX}{os.getppid()}_torchrun").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match=r"belongs to another user.*cache='disk'"):
        ImageCache("memory")


def test_a_system_without_a_ram_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ram_folder, "RAM_DISK", tmp_path / "none")
    with pytest.raises(ValueError, match="needs a RAM disk"):
        ImageCache("memory")
