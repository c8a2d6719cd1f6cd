"""Make the plugin's classes known to anomalib's own look-up functions."""


def register() -> None:
    """Let anomalib find the plugin's model and data modules by name.

    anomalib has no entry points: dotted paths on its command line and ``get_model("mem_mcmae")`` work once the
    class is imported, but bare class names, ``get_model({"class_path": "anomalib_memmc.MemMCMAE"})``,
    ``get_datamodule`` and hence ``anomalib benchmark`` only see what lives in anomalib's own modules. Call this once,
    before any of them; calling it again changes nothing. The ``anomalib-memmc`` command does it by itself.

    Examples:
        >>> from anomalib.models import list_models
        >>> from anomalib_memmc.register import register
        >>> register()
        >>> "MemMCMAE" in list_models(case="pascal")
        True
    """
    import anomalib.data  # noqa: PLC0415
    import anomalib.models  # noqa: PLC0415

    from anomalib_memmc.data import CovidX, HyperKvasir, Phantom  # noqa: PLC0415
    from anomalib_memmc.model import MemMCMAE  # noqa: PLC0415

    anomalib.models.ALLOWED_MODULES.add("anomalib_memmc")
    setattr(anomalib.models, MemMCMAE.__name__, MemMCMAE)
    for datamodule in (HyperKvasir, CovidX, Phantom):
        setattr(anomalib.data, datamodule.__name__, datamodule)
