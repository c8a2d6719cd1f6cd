"""Texts that people, spreadsheets and file systems wrote."""

import codecs
from pathlib import Path

from anomalib_memmc.data.io.errors import DatasetError

MARKS = {  # byte order mark -> encoding; that of UTF-16 is the start of one of UTF-32
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: str | Path) -> str:
    """Read a text file of UTF-8, or of the Unicode encoding that its byte order mark tells.

    Args:
        path: The file.

    Returns:
        The text, without marks (joined files have several), with its line ends as they are.

    Raises:
        DatasetError: If it is in another encoding, such as Latin-1 or UTF-16 without a mark; the line is named.
    """
    data = Path(path).read_bytes()
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DatasetError(_trouble(path, line, f"is not {encoding.upper()} ({error.reason})")) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DatasetError(_trouble(path, line, "holds zero bytes, as UTF-16 without a byte order mark does"))
    return text.replace("\ufeff", "")


def printable(name: object) -> str:
    """A file's name as text that can be stored: bytes of it that are not UTF-8 become backslash escapes.

    Args:
        name: The name, as Python has it from the file system.
    """
    return str(name).encode(errors="backslashreplace").decode()


def _trouble(path: str | Path, line: int, trouble: str) -> str:
    return f"{path}, line {line}: the file {trouble}. Save it in the encoding UTF-8."
