"""The options of activity perturbation: learned feedback, and local losses."""

from dataclasses import dataclass, fields

from fgnumba.errors import ConfigError
from fgnumba.validation import flag, real_number, store, whole_number

RULES = ("filter", "average")


@dataclass(frozen=True)
class Feedback:
    """Learned feedback: a matrix B for each layer, which carries the residual e of the outputs straight to the layer.

        h = a'(z) ⊙ (e Bᵀ)                                      the error signal that feedback predicts
        δ = h + (κ / T) Σ_t (d_t - h · u_t) u_t                  the error signal after correction by noise

    u_t are the signs of the noise, and d_t the derivative of an example's loss along them. ȯ is the response, the
    change of the outputs to the noise w = a'(z) u. B starts as zeros and learns to predict ȯ. Since h · u is e · (w B),
    one product serves prediction, correction and learning. Sources: F. Bacho, D. Chu, arXiv 2212.07282; the correction
    and the filter are measured in ``fgnumba/estimators/README.md``.

    With `follow`, a matrix that predicts a linear layer (a local head, or the model's output layer that reads hidden
    units) is given that layer's gradient xᵀ e, which is known in closed form, and the optimiser moves both alike. The
    difference between the two stays as it was, and noise has only to find it: of a local head, which starts as zeros
    like B, it is zero from the first step on, and its units get no noise. Sources: J. F. Kolen, J. B. Pollack, 1994;
    M. Akrout et al., arXiv 1904.05391, section 3.

    Parameters
    ----------
    rate : float, optional
        The rate at which B learns, above 0 and at most 2 (``filter``) or 1 (``average``). By default 0.5.
    rule : str, optional
        How B learns. ``filter`` (the default): B ← B + c Σ w ⊗ ε, where ε = ȯ - w B is the part of the response that B
        did not predict, and c is `rate` over the power of the noise. ``average``: B ← (1 - rate) B + rate · mean w ⊗ ȯ,
        which is FDFA as published.
    control : float, optional
        The factor κ, from 0 to 1, by which noise corrects feedback. With 1 (the default) the estimate is unbiased for
        any B. With 0 it is biased, but free of the noise of d.
    cells : int, optional
        The number of cells, along height and along width, into which an image is cut; the pixels of a cell share their
        rows of B. By default 7.
    every : int, optional
        Noise is added, and B learns, in one of so many steps; the other steps cost a primal pass and the update. Above
        1 only if κ is 0. By default 1.
    warmup : int, optional
        The number of steps at the beginning that all have noise, whatever `every` is. By default 0.
    follow : bool, optional
        Whether matrices follow the linear layers that they predict. Only with ``filter``. By default False.

    Raises
    ------
    ConfigError
        If an argument is out of its range or unknown.
    """

    rate: float = 0.5
    rule: str = "filter"
    control: float = 1.0
    cells: int = 7
    every: int = 1
    warmup: int = 0
    follow: bool = False

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
                f"feedback: every is {self.every!r}; 1 is required unless control is 0, "
                "because noise is needed in every step"
            )
        store(
            self,
            rate=rate,
            control=control,
            every=every,
            cells=whole_number("feedback: cells", self.cells),
            warmup=whole_number("feedback: warmup", self.warmup, 0),
            follow=flag("feedback: follow", self.follow),
        )
        if self.follow and self.rule != "filter":
            raise ConfigError(
                f"feedback: follow is True beside the rule {self.rule!r}; 'filter' is required, "
                "because an average forgets what it has followed"
            )

    def __repr__(self) -> str:
        # Checkpoints name their estimator so, and those of earlier versions have neither a warm-up nor followers.
        later = {"warmup": 0, "follow": False}
        shown = ((one.name, getattr(self, one.name)) for one in fields(self))
        said = (f"{name}={value!r}" for name, value in shown if name not in later or value != later[name])
        return f"Feedback({', '.join(said)})"

    def quiet(self, step: int) -> bool:
        """Return whether step number `step`, counted from 0, has no noise."""
        return step >= self.warmup and step % self.every > 0


@dataclass(frozen=True)
class LocalLosses:
    """Local losses: each block of layers ends in a linear head with a loss of its own, and trains for that loss alone.

    A block ends where an activation is applied, and the last block ends in the model's own output layer. The effect of
    noise in one block is not observed in any other. The gradients of the heads are computed in closed form.
    Source: M. Ren et al., arXiv 2210.03310, whose heads read the same means.

    Parameters
    ----------
    cells : int, optional
        A head reads the means of an image over windows of ⌊side / cells⌋ pixels. Along a side there are at least
        `cells` windows and fewer than twice as many; pixels that are left over at the end of the side are not read. By
        default 7.
    groups : int, optional
        The number of groups into which the channels of a block are cut. Each group has a head of its own, so that noise
        in one group does not disturb what is observed of another. More than 1 requires blocks of one layer. By
        default 1.

    Raises
    ------
    ConfigError
        If an argument is out of its range.
    """

    cells: int = 7
    groups: int = 1

    def __post_init__(self) -> None:
        store(
            self,
            cells=whole_number("local losses: cells", self.cells),
            groups=whole_number("local losses: groups", self.groups),
        )
