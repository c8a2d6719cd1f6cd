"""What docs/performance.md says about speed and memory, measured in one run of about ten minutes on two cores.

    python benchmarks/performance.py [--section inference training memory loader] [--quick]

Everything is a ratio of medians. The variants take turns after a warm-up, so that a change of the machine's speed
meets all of them. Needs the extras ``test`` (Hugging Face ViTMAE, OpenVINO) and, for the compiled rows, a C++ compiler.
"""

import argparse
import copy
import gc
import inspect
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import openvino
import torch
import transcription
import yaml
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from matplotlib import pyplot as plt
from PIL import Image as PilImage
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.v2 import RandomResizedCrop
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from anomalib_memmc import MemMCMAEModel
from anomalib_memmc.data.base.cache import ImageCache
from anomalib_memmc.data.base.dataset import MedicalImageDataset, make_samples
from anomalib_memmc.data.phantom.radiograph import paint_radiograph

ROOT = Path(__file__).parents[1]
PLAIN = {"memory_slots": 0, "multi_level": False, "long_skips": False}
BACKBONE = "tf_efficientnet_lite0"
CORESET = 10_000  # patches in PatchCore's memory bank
PAPER_IMAGES_PER_SECOND = 2000 * 13_794 / (22 * 3600)  # 2000 epochs of Covid-X in 22 hours on one RTX 3090


@dataclass
class Table:
    """A Markdown table with a note below it."""

    title: str
    header: Sequence[str]
    rows: list[Sequence[str]]
    note: str = ""

    def __str__(self) -> str:
        lines = [f"### {self.title}", "", *(f"| {' | '.join(row)} |" for row in (self.header, *self.rows))]
        lines.insert(3, f"| --- |{' ---: |' * (len(self.header) - 1)}")
        return "\n".join([*lines, "", self.note, ""] if self.note else [*lines, ""])


@dataclass
class Preset:
    """A model's arguments and how many images it is timed with."""

    name: str
    images: int
    arguments: dict[str, Any] = field(default_factory=dict)

    def model(self, **changes: Any) -> MemMCMAEModel:
        """The model in evaluation mode, always with the same weights."""
        torch.manual_seed(0)
        return MemMCMAEModel(**{**self.arguments, **changes}).eval()

    def batch(self, images: int) -> Tensor:
        """Random images (B, C, H, W)."""
        channels, size = self.arguments.get("in_channels", 3), self.arguments.get("image_size", 224)
        return torch.rand(images, channels, size, size, generator=torch.Generator().manual_seed(0))

    def hugging_face(self) -> ViTMAEForPreTraining:
        """A plain MAE of the same sizes, independent of ours."""
        names = inspect.signature(MemMCMAEModel).parameters
        ours = {name: self.arguments.get(name, names[name].default) for name in names}
        config = ViTMAEConfig(
            image_size=ours["image_size"],
            patch_size=ours["patch_size"],
            num_channels=ours["in_channels"],
            hidden_size=ours["encoder_dim"],
            num_hidden_layers=ours["encoder_depth"],
            num_attention_heads=ours["encoder_heads"],
            intermediate_size=4 * ours["encoder_dim"],
            decoder_hidden_size=ours["decoder_dim"],
            decoder_num_hidden_layers=ours["decoder_depth"],
            decoder_num_attention_heads=ours["decoder_heads"],
            decoder_intermediate_size=4 * ours["decoder_dim"],
            mask_ratio=ours["mask_ratio"],
        )
        return ViTMAEForPreTraining(config).eval()


def presets() -> list[Preset]:
    config = yaml.safe_load((ROOT / "configs" / "cpu" / "covidx.yaml").read_text())
    known = inspect.signature(MemMCMAEModel).parameters
    arguments = {name: value for name, value in config["model"]["init_args"].items() if name in known}
    return [Preset("paper", 1), Preset("CPU", 16, arguments)]


def take_turns(calls: dict[str, Callable[[], object]], rounds: int, warm_up: bool = True) -> dict[str, float]:
    """Median seconds of each call; all calls run in every round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for counted in [False] * warm_up + [True] * rounds:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if counted:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def multiply_adds(call: Callable[[], object]) -> int:
    """Multiply-adds of all products.

    Attention is counted as two explicit products, as the counter knows no fused one on a CPU; nor in-place products.
    """

    def in_place(_: torch.Size, left: torch.Size, right: torch.Size, **__: object) -> int:
        return 2 * left.numel() * right[-1]

    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: in_place})
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        call()
    return counter.get_total_flops() // 2


class Products:
    """The matrix products of a model alone, at their own sizes: how fast the machine multiplies.

    Args:
        model: The model whose sizes to take.
        views: Masked views a product holds.
    """

    def __init__(self, model: MemMCMAEModel, views: int) -> None:
        wide, narrow = model.patch_embed.out_channels, model.decoder.embed.out_features
        patches, shown = model.bank.shape[1], model.bank_visible.shape[1]
        seen, every, levels = views * (shown + 1), views * (patches + 1), len(model.levels)
        encoder, decoder = len(model.encoder.blocks), len(model.decoder.blocks)
        sizes = [(seen, wide, columns * wide, encoder) for columns in (3, 1, 4)]
        sizes += [(seen, 4 * wide, wide, encoder), (every, 4 * narrow, narrow, decoder)]
        sizes += [(every, narrow, columns * narrow, decoder) for columns in (3, 1, 4)]
        sizes += [(views * shown * levels, wide, 2 * narrow, decoder), (every, narrow, narrow, 3 * levels * decoder)]
        self.operands = [
            (torch.rand(rows, inner), torch.rand(columns, inner), -(-count // encoder))
            for rows, inner, columns, count in sizes
        ]
        self.multiply_adds = sum(len(x) * w.numel() * count for x, w, count in self.operands)

    def __call__(self) -> None:
        """Run the products of about one layer."""
        for x, weight, count in self.operands:
            for _ in range(count):
                functional.linear(x, weight)


def bfloat16_is_slow() -> str:
    """Why bfloat16 is not measured, or nothing: processors without such instructions take many times as long."""
    x = torch.rand(512, 512)
    half = x.bfloat16()
    seconds = take_turns({"float32": lambda: x @ x, "bfloat16": lambda: half @ half}, rounds=3)
    ratio = seconds["bfloat16"] / seconds["float32"]
    reason = f"not measured: a bfloat16 product takes {ratio:.0f} times a float32 one on this processor"
    return reason if ratio > 1 else ""


def open_vino(model: MemMCMAEModel, images: Tensor, folder: Path) -> Callable[[], object]:
    """The model exported to ONNX with a dynamic batch, compiled by OpenVINO in float32."""
    file = folder / "model.onnx"
    shapes = ({0: Dim("batch", min=1, max=64)},)
    example = images.expand(2, -1, -1, -1) if len(images) == 1 else images
    torch.onnx.export(model, (example,), file, dynamo=True, dynamic_shapes=shapes, verbose=False)
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads()}
    compiled = openvino.Core().compile_model(file, "CPU", hints)
    return lambda: compiled(images.numpy())


def threads() -> int:
    return torch.get_num_threads()


def baselines(images: Tensor) -> dict[str, Callable[[], object]]:
    """PaDiM and PatchCore of anomalib with random weights, which take as long as trained ones."""
    colour = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    padim = PadimModel(BACKBONE, ["blocks.1", "blocks.2", "blocks.4"], pre_trained=False, n_features=100).eval()
    patchcore = PatchcoreModel(["blocks.2", "blocks.4"], BACKBONE, pre_trained=False).eval()
    side = images.shape[-1] // 4
    padim.gaussian.mean = torch.zeros(100, side * side)
    padim.gaussian.inv_covariance = torch.eye(100).repeat(side * side, 1, 1)
    patchcore.memory_bank = torch.rand(CORESET, 40 + 112)
    return {"PaDiM": lambda: padim(colour), "PatchCore": lambda: patchcore(colour)}


def no_grad(call: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return call()

    return run


def inference(preset: Preset, rounds: int) -> tuple[Table, dict[str, float]]:
    """Time of an image against the floor."""
    model, images = preset.model(), preset.batch(preset.images)
    masks = len(model.bank)
    naive = masks * multiply_adds(lambda: transcription.reconstruct_one(model, images[:1], model.bank[0]))
    model.error_map = "mse"  # MS-SSIM blurs by products, which are no part of the network
    ours = multiply_adds(lambda: model.score(images[:1]))
    model.error_map = "ms_ssim"
    mae, repeated = preset.hugging_face(), images.repeat(masks, 1, 1, 1)
    products = Products(model, min(masks * len(images), model._chunk_size()))
    compiled = preset.model(compile=True)
    calls: dict[str, Callable[[], object]] = {
        "products alone": products,
        "plain transcription": lambda: transcription.error_map(model, images),
        "ours": lambda: model.score(images),
        "ours, compiled": lambda: compiled.score(images),
        "Hugging Face ViTMAE, ten passes": lambda: [mae(images) for _ in range(masks)],
        "Hugging Face ViTMAE, ten passes at once": lambda: mae(repeated),
        **baselines(images),
    }
    reason = bfloat16_is_slow()
    if not reason:
        half, half_images = copy.deepcopy(model).bfloat16(), images.bfloat16()
        calls["ours, bfloat16"] = lambda: half.score(half_images)
    with tempfile.TemporaryDirectory() as folder:
        calls["OpenVINO"] = open_vino(model, images, Path(folder))
        calls = {name: call if name == "OpenVINO" else no_grad(call) for name, call in calls.items()}
        seconds = {name: value / len(images) for name, value in take_turns(calls, rounds).items()}
    rate = products.multiply_adds / (seconds.pop("products alone") * len(images))
    floor = ours / rate
    rows = [
        (name.replace("ten", str(masks)), f"{value:.3f}", f"{value / floor:.2f}", f"{value / seconds['ours']:.2f}")
        for name, value in sorted(seconds.items(), key=lambda item: -item[1])
    ]
    rows.append(("floor: the multiply-adds alone", f"{floor:.3f}", "1.00", f"{floor / seconds['ours']:.2f}"))
    plain_ratio = seconds["plain transcription"] / seconds["ours"]
    note = (
        f"{len(images)} image(s) of {images.shape[-1]} px and {masks} masks, {threads()} threads. Products at the "
        f"model's sizes run at {rate / 1e9:.1f} G multiply-adds/s. An image takes {ours / 1e9:.1f} G as we compute it, "
        f"{naive / 1e9:.1f} G as the equations are printed. Ours reaches {floor / seconds['ours']:.0%} of the floor "
        f"and {plain_ratio:.2f} times the transcription's speed. bfloat16: {reason or 'in the table'}. "
        f"PaDiM and PatchCore: {BACKBONE} at the same image size, a memory bank of {CORESET:,} patches."
    )
    table = Table(f"Inference, {preset.name} preset", ("", "s/image", "of the floor", "of ours"), rows, note)
    return table, {name.replace("ten", str(masks)): value / floor for name, value in seconds.items()}


def training_step(model: nn.Module, images: Tensor) -> Callable[[], object]:
    """Forward, backward and AdamW."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def run() -> None:
        optimizer.zero_grad()
        result = model(images)
        (result if isinstance(result, Tensor) else result.loss).backward()
        optimizer.step()

    return run


def training(preset: Preset, batch: int, rounds: int) -> tuple[Table, float]:
    """Time of a training step against that of a plain MAE; also the images a second that the full model takes."""
    few, images = preset.batch(2), preset.batch(batch)
    models = {
        "ours": preset.model(),
        "plain MAE, ours": preset.model(**PLAIN),
        "Hugging Face ViTMAE": preset.hugging_face(),
    }
    arithmetic = {name: _of_a_pass(preset.model(**changes)) for name, changes in (("ours", {}), ("MAE", PLAIN))}
    for model in models.values():
        training_step(model, few)()  # a warm-up with the whole batch would take a third of the time
    steps = {name: training_step(model, images) for name, model in models.items()}
    seconds = take_turns(steps, rounds, warm_up=False)
    unit = seconds["plain MAE, ours"]
    rows = [(name, f"{value:.2f}", f"{value / unit:.2f}") for name, value in seconds.items()]
    note = (
        f"Batch {batch}, {threads()} threads, forward, backward and AdamW. The full model's arithmetic is "
        f"{arithmetic['ours'] / arithmetic['MAE']:.2f} times plain MAE's."
    )
    return Table(f"Training step, {preset.name} preset", ("", "s", "of plain MAE"), rows, note), batch / seconds["ours"]


def _of_a_pass(model: MemMCMAEModel) -> int:
    image = torch.rand(1, model.in_channels, *model.image_size)
    return multiply_adds(lambda: model.loss(image, model.bank[:1]))


class Enough(Exception):  # noqa: N818
    """Raised to leave a long batch early."""


def probe(arguments: dict[str, Any], images: int, passes: int | None) -> tuple[float, float]:
    """Seconds and peak memory (GiB) of scoring a batch in this process; of its first ``passes`` only, where given."""
    preset = Preset("", images, arguments)
    model, batch, done = preset.model(), preset.batch(images), []

    def count(*_: object) -> None:
        done.append(1)
        if passes is not None and len(done) > passes:
            raise Enough

    start = time.perf_counter()
    hook = model.encoder.register_forward_pre_hook(count)
    try:
        with torch.inference_mode():
            model.score(batch)
    except Enough:
        pass
    hook.remove()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return time.perf_counter() - start, int(status["VmHWM"].split()[0]) / 2**20


def fresh_probe(arguments: dict[str, Any], images: int, passes: int | None = None) -> tuple[float, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(probe, (arguments, images, passes))


def memory(preset: Preset, counts: Sequence[int], passes: int | None) -> list[Table]:
    """Time and peak memory against the batch, and against the masks at a fixed chunk."""
    idle = fresh_probe(preset.arguments, 1, passes=0)[1]
    rows = []
    for images in counts:
        seconds, peak = fresh_probe(preset.arguments, images)
        rows.append((str(images), f"{seconds:.2f}", f"{seconds / images:.3f}", f"{peak:.2f}"))
    seconds, peak = fresh_probe(preset.arguments, 200, passes)
    if passes is None:
        rows.append(("200", f"{seconds:.2f}", f"{seconds / 200:.3f}", f"{peak:.2f}"))
    else:
        rows.append((f"200, its first {passes} passes", "", "", f"{peak:.2f}"))
    title = f"Memory against the batch, {preset.name} preset"
    note = f"Scoring, each row in a fresh process; {idle:.2f} GiB are taken before it starts, by libraries and weights."
    of_batch = Table(title, ("images", "s", "s/image", "peak GiB"), rows, note)
    rows = []
    for masks in (5, 10, 20):
        seconds, peak = fresh_probe({**preset.arguments, "num_masks": masks, "mask_chunk_size": 5}, preset.images)
        rows.append((str(masks), f"{seconds:.2f}", f"{seconds / masks:.3f}", f"{peak:.2f}"))
    note = f"{preset.images} image(s), mask_chunk_size 5."
    title = f"Memory against the masks, {preset.name} preset"
    return [of_batch, Table(title, ("masks", "s", "s/mask", "peak GiB"), rows, note)]


def epoch(dataset: MedicalImageDataset) -> float:
    """Images a second of one epoch without workers."""
    loader = DataLoader(dataset, batch_size=8, collate_fn=dataset.collate_fn)
    start = time.perf_counter()
    for _ in loader:
        pass
    return len(dataset) / (time.perf_counter() - start)


def loader(consumed: dict[str, float], images: int) -> Table:
    """Images a second that the loader delivers, with and without the cache."""
    crop = RandomResizedCrop(224, scale=(0.2, 1.0), antialias=True)
    with tempfile.TemporaryDirectory() as name:
        folder, paths = Path(name), []
        for index in range(images):
            paths.append(folder / f"{index}.png")
            pixels, _ = paint_radiograph(np.random.default_rng(index), 1024, anomalous=False)
            PilImage.fromarray(pixels[..., 0]).save(paths[-1])
        samples = make_samples([{"image_path": str(path), "label_index": 0, "split": "train"} for path in paths])
        plain = MedicalImageDataset(samples, augmentations=crop)
        cached = MedicalImageDataset(samples, augmentations=crop, cache=ImageCache("disk", 256, folder / "cache"))
        epoch(plain)  # the files are in the system's cache from here on
        rates = {"decoding 1,024 px PNGs": epoch(plain), "with the cache, first epoch": epoch(cached)}
        rates["with the cache, later epochs"] = statistics.median(epoch(cached) for _ in range(3))
    small = torch.rand(32, 3, 256, 256)
    seconds = take_turns({"each": lambda: [crop(image) for image in small], "batch": lambda: crop(small)}, rounds=5)
    unit = rates["decoding 1,024 px PNGs"]
    rows = [(name, f"{rate:.0f}", f"{rate / unit:.1f}") for name, rate in rates.items()]
    rows += [(f"consumed in training, {name}", f"{rate:.1f}", f"{rate / unit:.2f}") for name, rate in consumed.items()]
    note = (
        f"{images} generated radiographs, RandomResizedCrop to 224 px, one process without workers. RandomResizedCrop "
        f"alone: {32 / seconds['each']:.0f} images/s one by one, {32 / seconds['batch']:.0f} on a batch, which cuts "
        "the same rectangle out of all its images."
    )
    return Table("Loader", ("", "images/s", "of decoding"), rows, note)


def draw(of_floor: dict[str, dict[str, float]], file: Path) -> None:
    """Bars of inference time relative to the floor, one panel a preset."""
    mpl.use("Agg")
    figure, axes = plt.subplots(1, len(of_floor), figsize=(6 * len(of_floor), 3.6), squeeze=False)
    for axis, (name, ratios) in zip(axes[0], of_floor.items(), strict=True):
        names = sorted(ratios, key=ratios.__getitem__, reverse=True)
        colours = ["tab:blue" if "ours" in key else "silver" for key in names]
        bars = axis.barh(names, [ratios[key] for key in names], color=colours)
        axis.bar_label(bars, fmt="%.2f", padding=3)
        axis.axvline(1, color="black", linewidth=1)
        axis.margins(x=0.15)
        axis.set(title=f"{name} preset", xlabel="time of an image / the multiply-adds' time")
    figure.tight_layout()
    figure.savefig(file, dpi=110)


SECTIONS = ("inference", "training", "memory", "loader")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--section", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count; a training step takes one less")
    parser.add_argument("--batch", type=int, default=32, help="images of a training step")
    parser.add_argument("--quick", action="store_true", help="the CPU preset only, one round")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "performance-tables.md")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    tables: list[Table] = []
    of_floor, consumed = {}, {"the paper's on an RTX 3090": PAPER_IMAGES_PER_SECOND}

    def report(*new: Table) -> None:
        for table in new:
            print(table, flush=True)
        tables.extend(new)
        gc.collect()

    for preset in presets()[options.quick :]:
        if "inference" in options.section:
            table, of_floor[preset.name] = inference(preset, rounds)
            report(table)
        if "training" in options.section:
            table, rate = training(preset, options.batch, max(1, rounds - 1))
            consumed[f"{preset.name} preset here"] = rate
            report(table)
        if "memory" in options.section:
            report(*memory(preset, (1, 2, 4), passes=2 if preset.name == "paper" else None))
    if "loader" in options.section:
        report(loader(consumed, images=8 if options.quick else 32))
    options.output.write_text("\n".join(map(str, tables)))
    if of_floor:
        draw(of_floor, options.output.with_name("performance.png"))


if __name__ == "__main__":
    main()
