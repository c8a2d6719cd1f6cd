"""What the frozen network gains from taking a batch in parts on a CPU.

    python -m experiments.performance.frozen --size 384 --images 16

Prints the time of a whole batch against that of the same batch in parts, as the package takes it. Weights are random.
"""

import argparse
from unittest.mock import patch

import torch

from anomalib_memmc.detection.options import number_from
from anomalib_memmc.model.features import FrozenFeatures
from experiments.performance.timing import take_turns, without_gradients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=number_from(1), default=384, help="side of the images in pixels")
    parser.add_argument("--images", type=number_from(1), default=16)
    parser.add_argument("--rounds", type=number_from(1), default=7)
    options = parser.parse_args()
    size = (options.size, options.size)
    network = FrozenFeatures("tf_efficientnet_lite0", ["blocks.6"], size, pre_trained=False).eval()
    images = torch.rand(options.images, 3, *size, generator=torch.Generator().manual_seed(0))

    def whole() -> torch.Tensor:
        with patch("anomalib_memmc.model.features._PIXELS_AT_ONCE", images.numel()):
            return network(images)

    in_parts = without_gradients(lambda: network(images))
    times = take_turns({"whole": without_gradients(whole), "in parts": in_parts}, options.rounds)
    ratio = times["whole"].over(times["in parts"])
    print(f"{options.images} images of {options.size} px: as one batch {ratio} times as long as in parts")


if __name__ == "__main__":
    main()
