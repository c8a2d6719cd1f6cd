"""Numbers of the command line."""


def count(text: str) -> int:
    """A number of rounds or images, at least 1.

    Args:
        text: As it was given.

    Raises:
        ValueError: If it is no such number; argparse then names the option.
    """
    if (number := int(text)) < 1:
        raise ValueError
    return number
