"""Counts that docs/ names: images, patients and ScopeGuide boxes of two test parts, and how often masks hide a patch.

    python -m experiments.counts NIH_CXR_DIR HYPER_KVASIR_DIR

Both are folders as the benchmarks' configurations take them.
"""

import argparse
from pathlib import Path

import pandas as pd

from anomalib_memmc import CovidX, HyperKvasir
from anomalib_memmc.data.hyperkvasir.scopeguide import has_scopeguide_box
from anomalib_memmc.model.masking import seeded_masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nih_cxr", type=Path)
    parser.add_argument("hyper_kvasir", type=Path)
    arguments = parser.parse_args()
    normal, _ = test_part(CovidX(root=arguments.nih_cxr))
    print(f"nih-cxr: {len(normal)} normal test images of {normal['group'].nunique()} patients")
    normal, polyps = test_part(HyperKvasir(root=arguments.hyper_kvasir, num_train_normal=350, num_test_normal=150))
    for name, frames in {"normal test frames": normal, "polyps": polyps}.items():
        print(f"Hyper-Kvasir: {frames['image_path'].map(has_scopeguide_box).sum()} of {len(frames)} {name} with a box")
    for sampler in ("complementary", "random"):
        hidden = seeded_masks(8, 64, 0.75, sampler, 0).sum(dim=0)
        print(f"8 {sampler} masks hide each of 64 patches {hidden.min()} to {hidden.max()} times")


def test_part(datamodule: CovidX | HyperKvasir) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Normal and anomalous test samples."""
    datamodule.setup()
    samples = datamodule.test_data.samples
    return samples[samples["label_index"] == 0], samples[samples["label_index"] == 1]


if __name__ == "__main__":
    main()
