"""The commands and the code of docs/reading-a-result.md, run as a reader would run them."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from anomalib_memmc import cli

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "reading-a-result.md").read_text(encoding="utf-8")
CHECKPOINT = Path("results/MemMCMAE/Phantom/latest/weights/lightning/model.ckpt")


def block(language):
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return text


@pytest.fixture(autouse=True)
def folder(trained, tmp_path, monkeypatch):
    """The reader's folder after the quickstart."""
    monkeypatch.chdir(tmp_path)
    CHECKPOINT.parent.mkdir(parents=True)
    shutil.copy(trained.checkpoint, CHECKPOINT)
    (painted,) = re.findall(r'FOLDER = "(.*)"', PAGE)
    shutil.copytree(trained.folder, painted)
    return Path(painted)


def test_the_command(folder, capsys):
    checkpoint, command = block("bash").splitlines()
    assert checkpoint == f"CKPT={CHECKPOINT}"
    arguments = command.replace("$CKPT", str(CHECKPOINT)).replace("IMAGE_OR_FOLDER", str(folder / "anomalous"))
    assert cli.main([*shlex.split(arguments)[1:], "--workers", "0", "--device", "cpu"]) == 0
    assert "of 10 images. The threshold is" in capsys.readouterr().out
    assert len(list(Path("results/predict").glob("*/cases/*.png"))) == 10


def test_the_python_code(capsys):
    exec(block("python"), {})
    assert re.match(r"(normal|anomalous): score [\d.]+, threshold [\d.]+, more unusual than", capsys.readouterr().out)
    assert Image.open("case.png").width > 500


def test_the_verdict_of_the_page_is_one():
    sentence = (
        r"anomalous: score [\d.]+, threshold [\d.]+, more unusual than [\d.]+ % of normal images; spread [\d.]+\n"
    )
    assert re.fullmatch(sentence, block("text"))
