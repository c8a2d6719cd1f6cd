"""The files beside an exported model that say what it is: ``metadata.json``, ``README.md``, and ONNX metadata."""

import json
from pathlib import Path
from typing import Any

from anomalib_memmc.checksum import digest
from anomalib_memmc.resuming.whole_file import replaced

METADATA, README = "metadata.json", "README.md"
_TRACE = "pkg.torch.onnx.stack_trace"
_ORIGIN = "anomalib_memmc"
"""Key of the whole description within an ONNX file; its parts have the key and a dot before them."""


def write_papers(files: list[Path], metadata: dict[str, Any]) -> list[Path]:
    """Write what is to be known of an exported model beside its files, each file whole or not at all.

    Args:
        files: The model's files, all in one folder.
        metadata: What :func:`~anomalib_memmc.export.metadata.describe` says.

    Returns:
        The files written.
    """
    folder = files[0].parent
    content = {**metadata, "files": {file.name: {"sha256": digest(file)} for file in files}}
    papers = {METADATA: json.dumps(content, indent=2, allow_nan=False) + "\n", README: as_text(content)}
    for name, text in papers.items():
        with replaced(folder / name) as part:
            part.write_text(text, encoding="utf-8")
    return [folder / name for name in papers]


def add_to_onnx(path: Path, metadata: dict[str, Any]) -> None:
    """Put the description into an ONNX file, whose weights may lie in another.

    Args:
        path: The file.
        metadata: What :func:`~anomalib_memmc.export.metadata.describe` says.
    """
    import onnx  # noqa: PLC0415  (optional)

    model = onnx.load(path, load_external_data=False)
    _remove_traces(model)
    entries = {_ORIGIN: metadata, **{f"{_ORIGIN}.{key}": value for key, value in metadata.items()}}
    onnx.helper.set_model_props(
        model, {key: value if isinstance(value, str) else json.dumps(value) for key, value in entries.items()}
    )
    with replaced(path) as part:
        onnx.save(model, part)


def _remove_traces(model: Any) -> None:
    """Remove where each node was made, which PyTorch's exporter notes: lines of code, by files of this machine."""
    for part in (model.graph, *model.functions):
        for node in part.node:
            kept = [entry for entry in node.metadata_props if entry.key != _TRACE]
            del node.metadata_props[:]
            node.metadata_props.extend(kept)


def as_text(metadata: dict[str, Any]) -> str:
    """The description as a page.

    Args:
        metadata: The description, with the files.
    """
    given, threshold = metadata["input"], metadata["threshold"]
    size = "of any size" if given["size"] == "any" else "of {} x {} pixels (height x width)".format(*given["size"])
    channels = " or ".join(map(str, given["channels"]))
    height, width = given["resized_inside_to"]
    outputs = "\n".join(
        f"| `{name}` | {' x '.join(map(str, output['shape']))} | {output['meaning']} |"
        for name, output in metadata["outputs"].items()
    )
    versions = ", ".join(f"{name} {number}" for name, number in metadata["versions"].items() if number)
    files = "\n".join(f"- `{name}`: SHA-256 {entry['sha256']}" for name, entry in metadata["files"].items())
    return f"""\
# {metadata["model"]}, exported as {metadata["format"]}

Software for research, no medical device. `{METADATA}` says the same for programs.

## In

`{given["name"]}`: {given["type"]}, {given["layout"]}. {channels} channels ({given["channel_order"]}), images {size}.

Pixels lie in [0, 1]: divide 8-bit values by 255. An image with other values gets {given["outside_the_range"]}.
The model resizes images to {height} x {width} itself ({given["resizing"]}).

## Out

| output | shape | meaning |
| --- | --- | --- |
{outputs}

The score before normalisation is above {_known(threshold["score"])} for an anomalous image. \
{_promise(threshold)}{_normalised(threshold)}
{_stored(metadata)}
## Made with

{versions}. Scorer: {metadata["scorer"]}. SHA-256 of the weights: {metadata["weights_sha256"]}.

{files}
"""


def _normalised(threshold: dict[str, Any]) -> str:
    """How ``pred_score`` follows from the score, or nothing where it does not or no threshold was learnt."""
    if threshold["score"] is None or threshold["scale"] is None:
        return ""
    return (
        f"\n\n`pred_score` is 0.5 + 0.5 z / (1 + |z|), z = (score - {threshold['score']:.6g}) / "
        f"{threshold['scale']:.6g}. `predict` writes the score before normalisation."
    )


def _stored(metadata: dict[str, Any]) -> str:
    """How the weights are stored, and what an export of 8 bits lost; nothing in float32."""
    if "weights" in metadata:
        return f"\nWeights are stored in {metadata['weights']}.\n"
    found = metadata.get("int8")
    if found is None:
        return ""
    areas, count = found["image_AUROC"], found["calibration_images"]
    images = f"{found['normal_images']} normal and {found['anomalous_images']} anomalous images of {found['data']}"
    return f"""
## 8 bits

Encoder and decoder are of 8 bits ({found["type"]}, nncf {found["nncf"]}), the score is computed in float32. \
Ranges of activations are those of {count} normal training images.

| on {images} | float32 | int8 |
| --- | ---: | ---: |
| image AUROC | {areas["float32"]:.4f} | {areas["int8"]:.4f} |

Scores differ by at most {found["largest_score_difference"]:.3g}, \
verdicts of {found["verdicts_that_differ"]} images differ.
"""


def _promise(threshold: dict[str, Any]) -> str:
    rate, normals = threshold["promised_false_alarm_rate"], threshold["normal_images"]
    if rate is None or not normals:
        return "Nothing is known of its false alarms."
    return f"The threshold promises {rate:.1%} false alarms; it was learnt from {normals} normal images or groups."


def _known(value: float | None) -> str:
    return "a threshold that was not learnt" if value is None else f"{value:.6g}"
