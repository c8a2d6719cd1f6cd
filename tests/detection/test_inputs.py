import os
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomalib_memmc.data.io import DatasetError, DatasetNotFoundError
from anomalib_memmc.detection.inputs import find_images
from anomalib_memmc.detection.paths import Paths


@pytest.fixture
def folder(tmp_path):
    """Images in three formats, DICOM without a suffix, and what else lies about."""
    root = tmp_path / "archive"
    for name in ("b/2.JPG", "b/10.png", "a/1.tif", "z.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    magic = b"\0" * 128 + b"DICM"
    for name in ("a/IM0001", "a/1.2.840.113619.55", "a/DICOMDIR"):
        (root / name).write_bytes(magic)
    (root / "a" / "3.dcm").touch()
    for name in (".DS_Store", "._z.png", "notes.txt", "b/table.csv", "b/other.csv", "b/log.1"):
        (root / name).touch()
    return root


def names(found, root):
    return [os.path.relpath(path, root) for path in found.paths]


IMAGES = ["z.png", "a/1.2.840.113619.55", "a/1.tif", "a/3.dcm", "a/IM0001", "b/10.png", "b/2.JPG"]


def test_a_folder_is_read_recursively_in_order_and_other_files_are_counted(folder):
    found = find_images([folder])
    assert names(found, folder) == IMAGES
    assert found.skipped == {".csv": 2, ".DS_Store": 1, ".png": 1, ".txt": 1, "DICOMDIR": 1, ".1": 1}
    assert str(found).startswith("7 images; 7 other files in the folders are skipped (2 .csv, ")


def test_no_image_is_listed_twice(folder, monkeypatch):
    (folder / "list.txt").write_text("b/2.JPG\nz.png\n")
    monkeypatch.chdir(folder)
    found = find_images(["list.txt", folder / "z.png", "b", folder])
    assert names(found, folder) == ["b/2.JPG", "z.png", "b/10.png", *IMAGES[1:5]]


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_links_to_folders_are_followed_once(folder):
    (folder / "b" / "loop").symlink_to(folder)
    (folder / "c").symlink_to(folder / "a")
    found = find_images([folder])
    assert len(found.paths) == 7
    assert len({os.path.realpath(path) for path in found.paths}) == 7


def test_the_output_is_no_input(folder):
    maps = folder / "scores" / "maps"
    maps.mkdir(parents=True)
    (maps / "0.png").touch()
    assert "scores/maps/0.png" in names(find_images([folder]), folder)
    assert names(find_images([folder], output=folder / "scores"), folder) == IMAGES


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet"])
def test_lists_start_at_their_own_folder(folder, kind, monkeypatch, tmp_path):
    paths = ["b/10.png", str(folder / "z.png"), "a/../b/2.JPG", "gone.png"]
    table = pd.DataFrame({"patient": ["1"] * 4, "path": paths})
    source = folder / f"list.{kind}"
    if kind == "txt":
        source.write_text("\ufeff" + "\r\n".join(paths) + "\n\n", encoding="utf-8")
    elif kind == "csv":
        table.to_csv(source, index=False, encoding="utf-8-sig")
    else:
        table.to_parquet(source)
    monkeypatch.chdir(tmp_path)
    assert names(find_images([source]), folder) == ["b/10.png", "z.png", "b/2.JPG", "gone.png"]


def test_paths_that_look_like_numbers_are_text(tmp_path):
    (tmp_path / "007").touch()
    (tmp_path / "list.csv").write_text("path\n007\n8\n")
    assert [os.path.basename(path) for path in find_images([tmp_path / "list.csv"]).paths] == ["007", "8"]


def write(path, content):
    if isinstance(content, pd.DataFrame):
        content.to_parquet(path)
    else:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"file,label\nz.png,0\n", "column 'path'"),
        ("a.csv", b"path,label\nz.png,0\n,1\n", "row 2 is empty"),
        ("a.csv", b"path,label\nz.png\n", "column 'path'"),
        ("a.csv", b"", "column 'path'"),
        ("a.csv", b"path\n\xff\xfe.png\n", "a.csv"),
        ("a.parquet", b"PAR1", "a.parquet"),
        ("a.parquet", pd.DataFrame({"image": ["z.png"]}), "its columns are image"),
        ("a.parquet", pd.DataFrame({"path": [1, 2]}), "holds int64"),
        ("a.parquet", pd.DataFrame({"path": ["z.png", None]}), "row 2 is empty"),
        ("a.txt", "grün.png\n".encode("latin-1"), "line 1"),
        ("a.txt", b"\n\n", "No images"),
        ("a.doc", b"text", "no image"),
    ],
)
def test_bad_lists_are_one_clear_error(folder, name, content, message):
    with pytest.raises(DatasetError, match=message):
        find_images([write(folder / name, content)])


def test_what_does_not_exist_is_named(folder):
    with pytest.raises(DatasetNotFoundError, match="nowhere"):
        find_images([folder / "nowhere"])
    with pytest.raises(DatasetNotFoundError, match="folder of the list"):
        find_images([write(folder / "a.txt", b"c/1.png\nc/2.png\n")])
    (folder / "texts").mkdir()
    write(folder / "texts" / "a.txt", b"x")
    with pytest.raises(DatasetError, match=r"skipped \(1 \.txt\)"):
        find_images([folder / "texts"])


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes")
def test_names_that_are_not_utf8_are_kept(tmp_path):
    name = os.fsdecode(b"gr\xfcn.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    (path,) = find_images([tmp_path]).paths
    assert path == str(tmp_path / name)


def test_paths_behave_like_a_list():
    paths = Paths(["c", "a", "c", "b"])
    assert [*paths] == ["c", "a", "b"]
    assert (len(paths), paths[1], paths[-1], [*paths[1:]], "a" in paths) == (3, "a", "b", ["a", "b"], True)
