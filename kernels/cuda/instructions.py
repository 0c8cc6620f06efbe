"""Which instructions a GPU's products use: float32 on ordinary cores, or tensor cores, whose factors are less exact."""

from dataclasses import dataclass

from fgnumba.errors import ConfigError, did_you_mean

PRECISIONS = ("float32", "tf32", "bf16")


@dataclass(frozen=True)
class Instructions:
    """The instruction set of a GPU, as operations are bound to it.

    Only the factors of products can be less precise than float32; sums and everything else are float32.

    Parameters
    ----------
    name : str
        Architecture, such as ``sm_90``.
    precision : str
        Precision of the factors in the primal's products: ``float32``; ``tf32``, rounded to 10 bits of fraction; or
        ``bf16``, rounded to 7 bits.
    tangent_precision : str or None
        Precision of the factors in the tangents' products. None: the primal's.

    Raises
    ------
    ConfigError
        A precision has an unknown name.
    """

    name: str
    precision: str = "float32"
    tangent_precision: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("precision", self.precision), ("tangent_precision", self.of_tangents)):
            if value not in PRECISIONS:
                raise ConfigError(f"{name} is {value!r}{did_you_mean(str(value), PRECISIONS)}")

    @property
    def of_tangents(self) -> str:
        """Precision of the factors in the tangents' products."""
        return self.precision if self.tangent_precision is None else self.tangent_precision
