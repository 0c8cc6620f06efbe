"""What activity perturbation is made of besides noise: feedback, and the scope of the loss."""

from dataclasses import dataclass

from fgnumba.errors import ConfigError
from fgnumba.validation import real_number, store, whole_number

RULES = ("filter", "average")


@dataclass(frozen=True)
class Feedback:
    """Matrices B that carry the residual e of what is observed straight to every layer.

        h = a'(z) ⊙ (e Bᵀ)
        δ = h + (κ / T) Σ_t (d_t - h · u_t) u_t

    Parameters
    ----------
    rate : of learning B, above 0.
    rule : ``filter``: B ← B + c Σ w ⊗ ε with the response that B did not predict, ε = ȯ - w B, w = a'(z) u, and
        c = rate over the noise's power; up to 2. ``average``: B ← (1 - rate) B + rate · mean w ⊗ ȯ; up to 1: FDFA as
        published.
    control : κ, from 0 to 1, how far noise corrects what feedback says. 1: unbiased for any B. 0: biased, and without
        the noise of d.
    cells : an image's pixels share B in so many cells, in each direction.
    every : noise goes in, and B learns, in one of so many steps; the others cost a primal pass and the update. Above 1
        only where κ is 0.

    B begins as zeros. h · u is e · (w B), so that one product serves prediction, control and learning.
    Sources: F. Bacho, D. Chu, arXiv 2212.07282; the control variate and the filter are measured in the documentation.

    Raises
    ------
    ConfigError
    """

    rate: float = 0.5
    rule: str = "filter"
    control: float = 1.0
    cells: int = 7
    every: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.rule, str) or self.rule not in RULES:
            raise ConfigError(f"feedback: rule is {self.rule!r}; {' or '.join(map(repr, RULES))} is required")
        rate = real_number("feedback: rate", self.rate, above_zero=True)
        control = real_number("feedback: control", self.control)
        every = whole_number("feedback: every", self.every)
        most = 2.0 if self.rule == "filter" else 1.0
        if rate > most:
            raise ConfigError(
                f"feedback: rate is {self.rate!r}; at most {most:g} with the rule {self.rule!r}"
            )
        if control > 1:
            raise ConfigError(f"feedback: control is {self.control!r}; a number from 0 to 1 is required")
        if every > 1 and control > 0:
            raise ConfigError(
                f"feedback: every is {self.every!r}; with a control above 0 noise is needed in every step"
            )
        cells = whole_number("feedback: cells", self.cells)
        store(self, rate=rate, control=control, cells=cells, every=every)


@dataclass(frozen=True)
class LocalLosses:
    """A linear head with a loss of its own at the end of every block; nothing crosses from block to block.

    A block ends where an activation is applied; the last one ends in the model's own output layer.

    Parameters
    ----------
    cells : a head reads an image's means over windows of ⌊side / cells⌋ pixels: at least so many in each direction and
        fewer than twice as many; what is left at the end of a side is not read.
    groups : G, a block's channels are cut into so many groups, each with a head of its own: noise in one does not
        disturb what is observed of another. More than one asks for blocks of one layer.

    The heads' gradients are in closed form. Source: M. Ren et al., arXiv 2210.03310, whose heads read what ours do.

    Raises
    ------
    ConfigError
    """

    cells: int = 7
    groups: int = 1

    def __post_init__(self) -> None:
        store(
            self,
            cells=whole_number("local losses: cells", self.cells),
            groups=whole_number("local losses: groups", self.groups),
        )
