import json

import pandas as pd
import pyarrow as pa
import pytest

from anomalib_memmc.archive.table import SCHEMA, ScoreTable
from anomalib_memmc.detection.paths import Paths

SETTINGS = {"checkpoint": "abc", "false_alarm_rate": 0.05, "maps": False}


def rows(*paths):
    return pa.table({name: paths if name == "path" else [None] * len(paths) for name in SCHEMA.names}, schema=SCHEMA)


def open_table(folder, part_rows=3, **settings):
    return ScoreTable(folder, {**SETTINGS, **settings}, part_rows=part_rows)


def paths_of(folder):
    return sorted(pd.read_parquet(folder / "scores")["path"])


def test_parts_are_full_ones_and_a_rest_and_read_as_one_table(tmp_path):
    with open_table(tmp_path) as table:
        for name in "abcdefg":
            table.add(rows(name))
    assert [path.name for path in sorted(tmp_path.glob("scores/*"))] == [f"part-00000{i}.parquet" for i in range(3)]
    assert paths_of(tmp_path) == list("abcdefg")
    assert list(pd.read_parquet(tmp_path / "scores").columns) == SCHEMA.names


def test_a_second_start_knows_what_is_there_and_removes_what_is_unfinished(tmp_path):
    with open_table(tmp_path) as table:
        table.add(rows("a", "b", "c", "d"))
    unfinished = tmp_path / "scores" / ".part-000001.1.tmp"
    unfinished.write_bytes(b"half")
    with open_table(tmp_path) as table:
        assert not unfinished.exists()
        assert [*Paths("abcde").without(table.read(["path"])["path"])] == ["e"]
        table.add(rows("e"))
    assert paths_of(tmp_path) == list("abcde")


def test_rows_of_an_interrupted_run_are_kept(tmp_path):
    def interrupted():
        with open_table(tmp_path) as table:
            table.add(rows("a"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert paths_of(tmp_path) == ["a"]


def test_rows_are_written_after_a_while(tmp_path, monkeypatch):
    table = open_table(tmp_path, part_rows=100)
    table.add(rows("a"))
    assert not list(tmp_path.glob("scores/*"))
    monkeypatch.setattr("anomalib_memmc.archive.table.PART_SECONDS", -1)
    table.add(rows("b"))
    assert paths_of(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("links", [True, False])
def test_two_processes_in_one_folder_never_write_a_row_twice(tmp_path, monkeypatch, links):
    if not links:

        def no_links(*_):
            raise PermissionError

        monkeypatch.setattr("os.link", no_links)
    first, second = open_table(tmp_path), open_table(tmp_path)
    first.add(rows("a", "b", "c"))
    with pytest.raises(ValueError, match="Another process"):
        second.add(rows("a", "b", "c"))
    assert paths_of(tmp_path) == list("abc")
    assert len(list(tmp_path.glob("scores/*"))) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"maps": True}, "maps was False, now True"), ({"checkpoint": "abd"}, "checkpoint was abc, now abd")],
)
def test_other_settings_are_refused(tmp_path, settings, message):
    open_table(tmp_path)
    with pytest.raises(ValueError, match=message):
        open_table(tmp_path, **settings)
    open_table(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"maps": False})])
def test_settings_that_cannot_be_read_are_refused(tmp_path, text):
    open_table(tmp_path)
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match="cannot be read"):
        open_table(tmp_path)


def test_scores_without_settings_are_refused(tmp_path):
    with open_table(tmp_path) as table:
        table.add(rows("a"))
    (tmp_path / "settings.json").unlink()
    with pytest.raises(ValueError, match="without a settings"):
        open_table(tmp_path)


def test_a_damaged_part_is_named(tmp_path):
    with open_table(tmp_path) as table:
        table.add(rows("a"))
    (part,) = tmp_path.glob("scores/*")
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"part-000000.parquet is damaged.*Delete it"):
        open_table(tmp_path).read(["path"])


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "scores").write_text("mine")
    with pytest.raises(ValueError, match=r"scores is a file: choose another"):
        ScoreTable(tmp_path / "scores", {})
    assert (tmp_path / "scores").read_text() == "mine"
