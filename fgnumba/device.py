"""Devices by name."""

from fgnumba.errors import DeviceError, did_you_mean

NAMES = ("auto", "cpu", "cuda")


def resolve(name: str) -> str:
    """Return the device that `name` stands for; ``auto`` is the best one there is.

    Raises
    ------
    DeviceError
        The name is unknown, or the device is not there: only ``auto`` chooses.
    """
    if name not in NAMES:
        raise DeviceError(f"device: unknown device {name!r}{did_you_mean(str(name), NAMES)}")
    if name == "cuda":
        raise DeviceError(
            "device: 'cuda' is not available, this version has CPU kernels only; use 'cpu' or 'auto'"
        )
    return "cpu"
