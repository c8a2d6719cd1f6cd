import subprocess
from types import SimpleNamespace

import pandas as pd
import pytest

from anomalib_memmc.reporting.report.card import duration
from anomalib_memmc.reporting.report.facts import commit, data_facts


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_is_that_of_the_clone_and_says_if_files_were_changed(tmp_path):
    package = tmp_path / "clone" / "package"
    package.mkdir(parents=True)
    (package / "code.py").write_text("one")
    assert commit(package) is None
    git(tmp_path / "clone", "init")
    assert commit(package) is None  # nothing is committed yet
    git(tmp_path / "clone", "add", ".")
    git(tmp_path / "clone", "commit", "-m", "first")
    head = git(tmp_path / "clone", "rev-parse", "HEAD")
    assert commit(package) == head[:12]
    (package / "code.py").write_text("two")
    assert commit(package) == f"{head[:12]} with changes"


def test_parts_are_counted_by_class_mask_and_group():
    parts = pd.DataFrame(
        {
            "split": ["train"] * 4 + ["test"] * 3,
            "label_index": [0] * 4 + [0, 1, 1],
            "mask_path": [""] * 5 + ["a.png", ""],
            "group": ["p", "p", "q", "q", "r", "s", "t"],
        }
    )
    found = data_facts(SimpleNamespace(name="Frames", parts=parts, findings=["a"], val_split_mode="from_train"))
    assert found["parts"] == [
        {"part": "train", "normal": 4, "anomalous": 0, "masks": 0, "groups": 2},
        {"part": "test", "normal": 1, "anomalous": 2, "masks": 1, "groups": None},
    ]
    assert (found["findings"], found["validation"]) == (["a"], "from_train")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "0.5 s"), (12, "12 s"), (185, "3 min 5 s"), (59.96, "60 s"), (79440, "22 h 4 min")]
)
def test_durations_are_told_in_words(seconds, words):
    assert duration(seconds) == words
