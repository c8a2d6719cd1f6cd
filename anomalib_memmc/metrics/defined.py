"""anomalib's AUROC and F1, which are NaN where they are not defined."""

from typing import cast

import anomalib.metrics
import torch
from torch import Tensor
from torchmetrics.utilities.data import dim_zero_cat


class AUROC(anomalib.metrics.AUROC):
    """anomalib's AUROC; NaN, not 0, where the images are all normal or all anomalous.

    Args:
        fields: Scores and labels in the batch, such as ``["pred_score", "gt_label"]``.
        prefix: Put before the metric's name, for example ``"image_"``.
        strict: ``False``: batches without the fields are passed over.

    Examples:
        >>> import torch
        >>> from anomalib.data import ImageBatch
        >>> auroc = AUROC(fields=["pred_score", "gt_label"])
        >>> normal = torch.zeros(2, dtype=torch.bool)
        >>> auroc.update(ImageBatch(image=torch.rand(2, 3, 4, 4), pred_score=torch.rand(2), gt_label=normal))
        >>> auroc.compute()
        tensor(nan)
    """

    def compute(self) -> Tensor | None:  # type: ignore[override]
        """The AUROC, a scalar in [0, 1]; NaN with one class, None where no batch had the fields."""
        labels = dim_zero_cat(self.target) if self.update_called else torch.zeros(0)
        is_of_one_class = len(labels) > 0 and bool((labels == labels[0]).all())
        return labels.new_full((), torch.nan, dtype=torch.float32) if is_of_one_class else super().compute()


class F1Score(anomalib.metrics.F1Score):
    """anomalib's F1 score; NaN, not 0, where nothing is anomalous. The arguments are those of :class:`AUROC`."""

    def compute(self) -> Tensor | None:  # type: ignore[override]
        """The F1 score, a scalar in [0, 1]; NaN without anything anomalous, None where no batch had the fields."""
        value = cast(Tensor | None, super().compute())
        is_defined = bool(cast(Tensor, self.tp) + cast(Tensor, self.fn) > 0)
        return value if value is None or is_defined else torch.full_like(value, torch.nan)
