"""Augmentations of a run by name, such as ``flip,crop:4``."""

from collections.abc import Callable, Sequence

from fgnumba.datasets.augmentation import Augment, Compose, RandomCrop, RandomFlip
from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import ConfigError, did_you_mean, shown

NONE = "none"
"""The augmentation that leaves the images as they are, also where a model's default would change them."""
COLOURS = 3
"""Number of channels of photographs."""


def _flip(number: str) -> Augment:
    return RandomFlip(float(number)) if number else RandomFlip()


def _crop(number: str) -> Augment:
    return RandomCrop(int(number)) if number else RandomCrop()


_KINDS: dict[str, tuple[Callable[[str], Augment], str]] = {
    "flip": (_flip, "a probability"),
    "crop": (_crop, "a whole number of pixels"),
}


def augmentation_of(text: str | None) -> Augment | None:
    """Return the augmentation that a text names, or None if there is none.

    Parameters
    ----------
    text : str or None
        Names separated by commas, in the order in which they change a batch: ``flip`` or ``flip:P``
        (:class:`fgnumba.datasets.RandomFlip` with the probability P), ``crop`` or ``crop:N``
        (:class:`fgnumba.datasets.RandomCrop` by up to N pixels). ``none`` or None: there is no augmentation.

    Raises
    ------
    ConfigError
        A name is unknown, or its number is impossible.
    """
    if text is None or text == NONE:
        return None
    if not isinstance(text, str) or not text:
        raise ConfigError(f"augment is {shown(text)}; names such as flip,crop:4, or none, are required")
    parts = [_one(part) for part in text.split(",")]
    return parts[0] if len(parts) == 1 else Compose(*parts)


def _one(part: str) -> Augment:
    name, colon, number = part.partition(":")
    if part == NONE:
        raise ConfigError("augment: 'none' stands alone")
    if name not in _KINDS:
        raise ConfigError(f"augment: unknown augmentation {shown(name)}{did_you_mean(name, (*_KINDS, NONE))}")
    make, kind = _KINDS[name]
    if colon and not number:
        raise ConfigError(f"augment is {shown(part)}; {kind} is required after the colon")
    try:
        return make(number)
    except ValueError:
        raise ConfigError(f"augment is {shown(part)}; {kind} is required after the colon") from None
    except ConfigError as error:
        raise ConfigError(f"augment is {shown(part)}: {error}") from None


def check_images(text: str | None, dataset: Dataset) -> None:
    """Raise ConfigError if an augmentation is to change examples that are no images.

    Parameters
    ----------
    text : str or None
        What :func:`augmentation_of` takes.
    dataset : Dataset
        The data set.
    """
    if augmentation_of(text) is None or _are_images(dataset.input_shape):
        return
    raise ConfigError(
        f"augment is {shown(text)}, and an example of {dataset.name} has the shape {dataset.input_shape}; "
        "images (H, W, C) are required"
    )


def suits_photographs(text: str | None, dataset: Dataset) -> str | None:
    """Return a model's default augmentation if the data are colour images, else None.

    A flipped digit is another one or none, and a flipped photograph still shows what it did.

    Parameters
    ----------
    text : str or None
        What :func:`augmentation_of` takes.
    dataset : Dataset
        The data set.
    """
    shape = dataset.input_shape
    return text if _are_images(shape) and shape[-1] == COLOURS else None


def _are_images(shape: Sequence[int]) -> bool:
    return len(shape) == 3
