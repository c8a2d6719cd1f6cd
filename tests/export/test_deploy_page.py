"""The Python code of docs/deploy.md runs as it stands, and gives what a direct call of the model gives."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("block", "library"), zip(BLOCKS, ["onnxruntime", "openvino"], strict=True))
def test_code_scores_an_image(block, library, grey, root, monkeypatch, capsys):
    model, _ = grey
    monkeypatch.chdir(root)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("image.png")
    with torch.no_grad():
        expected = model(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    assert f"import {library}" in block
    assert len(block.split("\n\n", 1)[1].splitlines()) <= 15
    found = {}
    exec(block, found)
    assert found["score"] == pytest.approx(expected.pred_score.item(), abs=1e-4)
    assert found["is_anomalous"] == expected.pred_label.item()
    verdict = "anomalous" if expected.pred_label else "normal"
    assert capsys.readouterr().out == f"{verdict} {found['score']:.3f}\n"


@pytest.mark.parametrize("block", BLOCKS)
def test_code_refuses_what_was_not_divided(block, root, monkeypatch):
    monkeypatch.chdir(root)
    Image.fromarray(np.full((40, 36, 3), 200, dtype=np.uint8)).save("image.png")
    with pytest.raises(ValueError, match=r"takes pixels in \[0\.0, 1\.0\]"):
        exec(block.replace(" / 255", ""), {})
