"""Callbacks that average weights do not fit a model that measures things by its weights."""

from collections.abc import Iterable

from lightning.pytorch import Callback, callbacks

_AVERAGING = (
    callbacks.StochasticWeightAveraging,
    *([callbacks.WeightAveraging] if hasattr(callbacks, "WeightAveraging") else []),  # from Lightning 2.6 on
)


def refuse_averaging(given: Iterable[Callback]) -> None:
    """Refuse Lightning's callbacks that average weights.

    Args:
        given: The trainer's callbacks.

    Raises:
        ValueError: If one of them averages weights.
    """
    for callback in given:
        if isinstance(callback, _AVERAGING):
            msg = (
                f"{type(callback).__name__} exchanges the weights without the thresholds and the errors of normal "
                "images that MemMCMAE measures in each validation, so its scores would be wrong: remove it from "
                "trainer.callbacks."
            )
            raise ValueError(msg)
