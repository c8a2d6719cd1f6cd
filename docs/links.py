"""A hook of MkDocs: files outside the site, such as ../CONTRIBUTING.md, are named; pictures open at their own size."""

import re
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[1]
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#:]+)(?:#[^)\s]*)?\)")
_PICTURE = re.compile(r"^!\[[^\]]*\]\(([^)\s]+)\)$", re.MULTILINE)
_UNPUBLISHED = "docs/runs"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the path of a file in the repository in place of a link that would lead nowhere.

    Args:
        markdown: The text of a page.
        page: The page.

    Returns:
        The text, with all other links as they were, and every picture a link to its file.
    """
    folder = (REPO / "docs" / page.file.src_uri).parent

    def mend(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        path = target.relative_to(REPO).as_posix() if target.is_relative_to(REPO) else ""
        is_published = path.startswith("docs/") and not path.startswith(_UNPUBLISHED)
        if is_published or not target.exists():
            return link[0]  # a link that leads nowhere at all is for MkDocs to complain about
        return f"`{path}`" if link[1].rstrip("/") in {link[2], target.name, path} else f"{link[1]} (`{path}`)"

    return _PICTURE.sub(lambda picture: f"[{picture[0]}]({picture[1]})", _LINK.sub(mend, markdown))
