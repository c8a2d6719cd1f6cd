"""The configurations that come with the package: found by name, printed by the ``presets`` command."""

from anomalib_memmc.presets.names import find_config, preset_names, preset_path

__all__ = ["find_config", "preset_names", "preset_path"]
