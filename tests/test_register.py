import pytest
from anomalib.data import get_datamodule
from anomalib.models import get_model, list_models
from helpers.models import TINY_MEMMC

from anomalib_memmc import CovidX, HyperKvasir, MemMCMAE, Phantom
from anomalib_memmc.register import register


@pytest.fixture(autouse=True)
def _registered():
    register()
    register()  # changes nothing


def test_model_is_listed():
    assert "MemMCMAE" in list_models(case="pascal")


@pytest.mark.parametrize("name", ["MemMCMAE", "mem_m_c_m_a_e", "memmc_mae"])
def test_get_model_by_name(name):
    assert isinstance(get_model(name, **TINY_MEMMC), MemMCMAE)


@pytest.mark.parametrize("class_path", ["MemMCMAE", "anomalib_memmc.MemMCMAE"])
def test_get_model_by_class_path(class_path):
    model = get_model({"class_path": class_path, "init_args": TINY_MEMMC})
    assert isinstance(model, MemMCMAE)


@pytest.mark.parametrize("class_path", ["Phantom", "anomalib_memmc.Phantom"])
def test_get_datamodule(class_path, tmp_path):
    datamodule = get_datamodule({"class_path": class_path, "init_args": {"root": str(tmp_path), "num_train": 3}})
    assert isinstance(datamodule, Phantom)


def test_all_datamodules_are_known():
    import anomalib.data

    assert anomalib.data.HyperKvasir is HyperKvasir
    assert anomalib.data.CovidX is CovidX
