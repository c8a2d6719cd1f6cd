"""Steps over several batches: the same gradients as from one large batch."""

from collections.abc import Iterable

from torch import Tensor, nn


class ImageMean:
    """Makes the gradient of an accumulated step the mean over its images, as that of one large batch is.

    Lightning adds up the means of the batches and divides by ``accumulate_grad_batches``. In the last step of an epoch
    that is another number: there may be fewer batches, and the last may have fewer images. Weights of the batches'
    losses, and a factor for the sum of their gradients, put that right. Full steps keep theirs to the bit.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin a step, without batches so far."""
        self._first = self._images = 0

    def weight(self, images: int) -> float:
        """Weight of the loss of the step's next batch.

        Args:
            images: Images of the batch.

        Returns:
            Images in proportion to those of the step's first batch.
        """
        self._first = self._first or images
        self._images += images
        return images / self._first

    def finish(self, parameters: Iterable[nn.Parameter], divisor: int) -> None:
        """Scale the gradients that were added up, and begin the next step.

        Args:
            parameters: The parameters.
            divisor: What the batches' losses were divided by, ``accumulate_grad_batches``.
        """
        factor = divisor * self._first / self._images if self._images else 1.0
        self.restart()
        gradients: list[Tensor] = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for gradient in gradients if factor != 1 else ():
            gradient.mul_(factor)
