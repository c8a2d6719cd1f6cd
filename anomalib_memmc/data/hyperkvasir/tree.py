"""Where the images of Hyper-Kvasir lie on disk, and whether all of them are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anomalib_memmc.data.io import DatasetError, DatasetNotFoundError

LABELED = "labeled-images"
SEGMENTED = "segmented-images"
NORMAL_CLASSES = {
    "cecum": "lower-gi-tract/anatomical-landmarks/cecum",
    "ileum": "lower-gi-tract/anatomical-landmarks/ileum",
    "bbps-2-3": "lower-gi-tract/quality-of-mucosal-views/bbps-2-3",
}
OFFICIAL_COUNTS = {"cecum": 1009, "ileum": 9, "bbps-2-3": 1148, "segmented polyps": 1000}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}
SOURCE = (
    "Hyper-Kvasir comes from Simula, https://datasets.simula.no/hyper-kvasir/ (CC BY 4.0; please cite it); download "
    "and unpack hyper-kvasir-labeled-images.zip and hyper-kvasir-segmented-images.zip yourself"
)
TREE = (
    "<root>/labeled-images/lower-gi-tract/{anatomical-landmarks/{cecum,ileum},quality-of-mucosal-views/bbps-2-3} and "
    "<root>/segmented-images/{images,masks}, each also inside one more folder"
)


@dataclass(frozen=True)
class HyperKvasirTree:
    """The files found.

    Attributes:
        normals: Files of each normal class, sorted.
        polyps: Pairs of a segmented polyp's image and its mask, sorted.
    """

    normals: dict[str, list[Path]]
    polyps: list[tuple[Path, Path]]

    def report(self) -> str:
        """Found against expected, one class after the other."""
        found = {name: len(files) for name, files in self.normals.items()} | {"segmented polyps": len(self.polyps)}
        return ", ".join(f"{name} {found[name]} of {count}" for name, count in OFFICIAL_COUNTS.items())

    @property
    def complete(self) -> bool:
        """Whether every class has its official count."""
        found = {name: len(files) for name, files in self.normals.items()} | {"segmented polyps": len(self.polyps)}
        return found == OFFICIAL_COUNTS


def find_tree(root: Path) -> HyperKvasirTree:
    """List the normal frames and the segmented polyps below a folder.

    Args:
        root: The folder that holds ``labeled-images`` and ``segmented-images``, or the archives' own top folders.

    Returns:
        The files; classes without a folder are empty.

    Raises:
        DatasetNotFoundError: If there is no such tree at all.
        DatasetError: If polyps have no mask.
    """
    folders = _folders(root)
    labeled = next((folder for folder in folders if (folder / "lower-gi-tract").is_dir()), None)
    segmented = next(
        (folder for folder in folders if all((folder / name).is_dir() for name in ("images", "masks"))), None
    )
    if labeled is None or segmented is None:
        missing = " and ".join(name for name, place in ((LABELED, labeled), (SEGMENTED, segmented)) if place is None)
        msg = f"No {missing} of Hyper-Kvasir under {root}: {_contents(root)}. Expected {TREE}. {SOURCE}."
        raise DatasetNotFoundError(msg)
    return HyperKvasirTree(
        normals={name: _images(labeled / place) for name, place in NORMAL_CLASSES.items()},
        polyps=_pair_masks(_images(segmented / "images"), _images(segmented / "masks")),
    )


def _folders(root: Path) -> list[Path]:
    """The root and the folders in the two levels below it, nearest first."""
    levels = [[root] if root.is_dir() else []]
    for _ in range(2):
        levels.append([child for folder in levels[-1] for child in sorted(folder.iterdir()) if child.is_dir()])
    return [folder for level in levels for folder in level]


def _contents(root: Path) -> str:
    """What a folder holds, for a message."""
    if not root.is_dir():
        return "the folder does not exist"
    names = sorted(child.name for child in root.iterdir())
    return f"it holds {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}" if names else "the folder is empty"


def _images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _pair_masks(images: list[Path], masks: list[Path]) -> list[tuple[Path, Path]]:
    """Each image with the mask of the same name."""
    by_stem = {mask.stem: mask for mask in masks}
    alone = [image for image in images if image.stem not in by_stem]
    if alone:
        expected = alone[0].parent.parent / "masks" / alone[0].name
        msg = (
            f"{len(alone)} segmented polyps have no mask, the first is {alone[0]} (expected {expected}). "
            f"Unpack hyper-kvasir-segmented-images.zip again, or remove these images."
        )
        raise DatasetError(msg)
    return [(image, by_stem[image.stem]) for image in images]
