"""The studies are a package of this repository, not of the one that is installed: its root comes last on the path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
