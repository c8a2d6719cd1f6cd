from types import SimpleNamespace

import pytest
from anomalib.utils.path import create_versioned_dir

from anomalib_memmc.callbacks import OneFolder
from anomalib_memmc.callbacks.one_folder import folder_of_process


def agree(folders):
    """Let the callback of each process see what anomalib made in it, the first process last."""
    trainers = []
    for rank, folder in reversed(list(enumerate(folders))):
        strategy = SimpleNamespace(broadcast=lambda _: str(folders[0]), barrier=lambda _: None)
        trainer = SimpleNamespace(
            world_size=len(folders), default_root_dir=str(folder), strategy=strategy, is_global_zero=rank == 0
        )
        OneFolder().setup(trainer, None, "fit")
        trainers.append(trainer)
    return trainers


def test_processes_started_one_after_the_other_share_the_first_ones_folder(tmp_path):
    folders = [create_versioned_dir(tmp_path / "Model") for _ in range(3)]
    *others, _ = agree(folders)
    assert {trainer._default_root_dir for trainer in others} == {str(folders[0])}
    assert {path.name for path in (tmp_path / "Model").iterdir()} == {"v0", "latest"}
    assert (tmp_path / "Model" / "latest").resolve() == folders[0].resolve()


def test_processes_started_at_once_leave_nothing_behind(tmp_path, monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "GROUP_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("RANK", "0")
    first = folder_of_process(tmp_path)
    monkeypatch.setenv("RANK", "1")
    second = folder_of_process(tmp_path)
    assert first == tmp_path != second
    folders = [create_versioned_dir(root / "Model" / "data") for root in (first, second)]
    agree(folders)
    assert [path.name for path in tmp_path.iterdir()] == ["Model"]
    assert (tmp_path / "Model" / "data" / "latest").resolve() == folders[0].resolve()


def test_a_folder_with_something_in_it_stays(tmp_path):
    folders = [create_versioned_dir(tmp_path / "Model") for _ in range(2)]
    (folders[1] / "notes.txt").touch()
    agree(folders)
    assert (folders[1] / "notes.txt").is_file()


@pytest.mark.parametrize(("rank", "name"), [("0", ""), ("3", "process-3")])
def test_tasks_of_slurm_have_folders_of_their_own_to_start_with(tmp_path, rank, name, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for variable, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "memmc", "SLURM_PROCID": rank}.items():
        monkeypatch.setenv(variable, value)
    assert folder_of_process(tmp_path) == tmp_path / name


@pytest.mark.parametrize("launched", [False, True])
def test_one_process_keeps_its_folder(tmp_path, launched, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    if launched:  # by Lightning, not by torchrun
        monkeypatch.setenv("LOCAL_RANK", "1")
    assert folder_of_process(tmp_path) == tmp_path
