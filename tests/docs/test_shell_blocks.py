"""Every command of README and docs: run at its smallest, or at least read by the parser that would read it.

A command that no rule knows fails. What takes a checkpoint and images runs, on a tiny trained model and painted images.
What trains a large preset, or needs a cluster, a GPU or real images, is parsed with all its options and files.
"""

import re
import shutil
import sys

import pytest
from helpers.doc_commands import CHECKPOINT, RUN, check
from helpers.shell import PAGES, REPO, blocks, commands, split

from anomalib_memmc import cli
from anomalib_memmc.presets.command import standalone

ALL = commands()
UNIQUE = {command.words: command for command in reversed(ALL)}


def name(command):
    return f"{command.page}:{command.line} {' '.join(command.words)[:70]}"


@pytest.fixture
def place(trained, covidx_root, hyperkvasir_root, tmp_path, monkeypatch):
    """A clone after the quickstart: presets, docs and experiments, a checkpoint, painted images and data sets."""
    for part in ("configs", "docs", "experiments", "tests"):
        (tmp_path / part).symlink_to(REPO / part)
    (tmp_path / CHECKPOINT).parent.mkdir(parents=True)
    shutil.copy(trained.checkpoint, tmp_path / CHECKPOINT)
    (tmp_path / RUN).with_name("latest").symlink_to("v0")
    anomalous = sorted((trained.folder / "anomalous").glob("*.png"))
    normal = sorted(path for path in trained.folder.rglob("*.png") if path.parent.name not in {"anomalous", "masks"})
    for folder, files in {"images": anomalous[:3], "normals": normal[:24]}.items():
        (tmp_path / folder).mkdir()
        for number, path in enumerate(files):
            shutil.copy(path, tmp_path / folder / f"{number:02}.png")
    for folder, files in {
        "train/NORMAL": normal[:16], "test/NORMAL": normal[16:18], "test/PNEUMONIA": anomalous[:2]
    }.items():  # fmt: skip
        (tmp_path / "folder" / folder).mkdir(parents=True)
        for number, path in enumerate(files):
            shutil.copy(path, tmp_path / "folder" / folder / f"{number:02}.png")
    for page, file in {"extending": "my_scores.py", "data-set": "my_data.py"}.items():
        (tmp_path / file).write_text(blocks(REPO / "docs" / f"{page}.md", {"python"})[0][1])
    (tmp_path / "my.yaml").write_text(standalone("quickstart"))
    (tmp_path / "alarms.csv").write_text("path\nimages/00.png\nimages/02.png\n")
    (tmp_path / "mine.yaml").write_text(blocks(REPO / "docs" / "extending.md", {"yaml"})[0][1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # restored at the end; seed_everything changes it
    monkeypatch.setattr(cli, "configure_logger", lambda: None)
    yield tmp_path
    for module in ("my_scores", "my_data"):
        sys.modules.pop(module, None)


@pytest.mark.parametrize("command", UNIQUE.values(), ids=name)
def test_command(command, place):
    check(list(command.words), place)


def test_no_block_is_left_out():
    """Every fenced block names a language, so that no command hides in a block of another kind."""
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert all(fences[::2]), page
        text = [body for _, body in blocks(page, {"text", "yaml", "json"})]
        assert not [body for body in text if re.search(r"^(anomalib|pip|python) ", body, flags=re.MULTILINE)], page
    assert len(ALL) > 60


def test_words_of_a_block():
    block = (
        "CKPT=a/model.ckpt  \nX=$(list --all | head -1)\nuse $CKPT ${CKPT} $X > file && more 'a b' \\\n --last # no\n"
    )
    assert split(block, {}) == [
        ["list", "--all"],
        ["head", "-1"],
        ["use", "a/model.ckpt", "a/model.ckpt", "X"],
        ["more", "a b", "--last"],
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("unknown-program --option", "no rule for the program 'unknown-program'"),
        ("anomalib-memmc train --config no-such-preset --ckpt_path X", "no-such-preset"),
        ("anomalib-memmc train --config quickstart --model.init_args.no_such_key 1 --ckpt_path X", "no_such_key"),
        ("anomalib train --model MemMCMAE --config configs/quickstart.yaml", "MemMCMAE"),
        ("anomalib-memmc score ARCHIVE --checkpoint CKPT --output DIR --no-such-option", "--no-such-option"),
        ("anomalib-memmc no-such-command", "'no-such-command'"),
        ("anomalib-memmc benchmark --config configs/benchmark.yaml --data.init_args.no_such_key 1", "no_such_key"),
        ("python -m experiments.evidence docs/runs/nih-cxr --alike noise --no-such-option", "--no-such-option"),
        ("python -m experiments.evidence docs/runs/nowhere --alike noise", "docs/runs/nowhere"),
        ("python -m experiments.no_such_study", "experiments.no_such_study"),
        ("pip install 'anomalib-memmc[no-such-extra]'", "no-such-extra"),
        ("pytest tests/no_such_test.py", "no_such_test.py"),
        ("make no-such-target", "no-such-target"),
    ],
)
def test_a_wrong_command_fails(line, reason, place, capsys):
    """The rules see a wrong option, a missing file, and a name that is none."""
    (words,) = split(line, {})
    with pytest.raises((AssertionError, Exception, SystemExit)) as failed:
        check(words, place)
    assert reason in f"{failed.value} {capsys.readouterr().err}"
