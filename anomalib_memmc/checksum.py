"""Checksums of files."""

import hashlib
import io
from pathlib import Path

_AT_ONCE = 2**20


def digest(content: Path | bytes) -> str:
    """SHA-256 of a file, in hexadecimal.

    Args:
        content: The file, or what is in it.
    """
    found = hashlib.sha256()
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        while some := file.read(_AT_ONCE):
            found.update(some)
    return found.hexdigest()
