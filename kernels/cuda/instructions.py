"""Which instructions products take on a GPU: float32 on its cores, or tensor cores with less precise factors."""

from dataclasses import dataclass

from fgnumba.errors import ConfigError, did_you_mean

PRECISIONS = ("float32", "tf32", "bf16")


@dataclass(frozen=True)
class Instructions:
    """The instruction set of a GPU, as operations are bound to it.

    Parameters
    ----------
    name : ``sm_90`` and the like.
    precision : of the primal's products: ``float32``; ``tf32``, factors rounded to 10 bits of fraction; ``bf16``, to 7.
        Sums are float32 in any case.
    tangent_precision : of the tangents' products; None: as the primal's. Elsewhere than in a product's factors all is
        float32.

    Raises
    ------
    ConfigError
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
        """The tangents' precision."""
        return self.precision if self.tangent_precision is None else self.tangent_precision
