"""What a wheel must hold, and what it must not: ``python .ci/wheel_contents.py FILE.whl``."""

import sys
from pathlib import Path
from zipfile import ZipFile

PACKAGE = "anomalib_memmc"


def main() -> None:
    """End with a message if a file is missing, or one is there that should not be."""
    repository = Path(__file__).parents[1]
    names = set(ZipFile(sys.argv[1]).namelist())
    source = [path for path in (repository / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    presets = [
        f"{PACKAGE}/{path.relative_to(repository).as_posix()}" for path in (repository / "configs").rglob("*.yaml")
    ]
    wanted = {*(path.relative_to(repository).as_posix() for path in source), *presets}
    foreign = [name for name in names - wanted if ".dist-info/" not in name]
    if wanted - names or foreign or f"{PACKAGE}/py.typed" not in names:
        sys.exit(f"missing from the wheel: {sorted(wanted - names)}; not of the package: {sorted(foreign)}")
    print(f"{len(names)} files, {len(presets)} presets")


if __name__ == "__main__":
    main()
