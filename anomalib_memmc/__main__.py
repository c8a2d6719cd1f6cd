"""``python -m anomalib_memmc``: the ``anomalib-memmc`` command, which then also finds modules in the current folder."""

import sys

from anomalib_memmc.cli import main

if __name__ == "__main__":
    sys.exit(main())
