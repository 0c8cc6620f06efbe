"""A :class:`Recipe`: an estimator's name in configurations, and the settings that were searched for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fgnumba.errors import ConfigError
from fgnumba.estimators.base import Estimator
from fgnumba.validation import flag, optional, real_number, store, whole_number


@dataclass(frozen=True)
class Recipe:
    """An estimator under a name that configurations use, with the settings that a search found for it.

    Parameters
    ----------
    make : callable
        A function that returns the estimator. Its keyword arguments are the options in `takes` that were chosen.
    takes : tuple of str
        The options that the user may choose: ``direction``, ``directions``, both or none. By default ``directions``.
    optimizer : str
        The name of the optimiser in ``fgnumba.optimizers.OPTIMIZERS``. By default ``adam``.
    learning_rate : float, optional
        The learning rate. By default it is ``fgnumba.training.defaults.default_learning_rate``, a formula
        for weight perturbation.
    rates : mapping of str to float
        The learning rates of those models, by name, that need another one. By default no model does.
    momentum : float, optional
        The momentum of `optimizer`, which is then ``sgd``. By default it is the optimiser's own: 0.
    steps : int, optional
        The number of steps of a run. By default it is the number that suits the model.
    epochs : int, optional
        The number of passes over the data after which more do not help, so that a run on small data has fewer steps.
        By default there is no limit.
    general : bool, optional
        Whether the estimator trains models of most kinds. By default True; False of one for recurrent layers alone, or
        for residual streams of transformers alone.
    variants : mapping of str to callable
        For models, by name, that need another estimator: what takes the place of `make`. By default no model does.
    evidence : str
        The evidence for the learning rates: what was searched, and with which result. By default there is none.

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """

    make: Callable[..., Estimator]
    takes: tuple[str, ...] = ("directions",)
    optimizer: str = "adam"
    learning_rate: float | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    momentum: float | None = None
    steps: int | None = None
    epochs: int | None = None
    general: bool = True
    variants: Mapping[str, Callable[..., Estimator]] = field(default_factory=dict)
    evidence: str = ""

    def __post_init__(self) -> None:
        store(
            self,
            learning_rate=optional(real_number, "learning_rate", self.learning_rate, above_zero=True),
            rates={name: real_number("rates", rate, above_zero=True) for name, rate in self.rates.items()},
            momentum=optional(real_number, "momentum", self.momentum, below=1),
            steps=optional(whole_number, "steps", self.steps),
            epochs=optional(whole_number, "epochs", self.epochs),
            general=flag("general", self.general),
        )

    def build(
        self, name: str, direction: str | None, directions: int | None, model: str | None = None
    ) -> Estimator:
        """Return the estimator with these options; an option that is None stays the recipe's own.

        `name` is the name of the recipe, for messages, and `model` that of the model, if it has one. ConfigError is
        raised if the estimator does not take an option.
        """
        make = self.make if model is None else self.variants.get(model, self.make)
        options = {"direction": direction, "directions": directions}
        for option, value in options.items():
            if value is not None and option not in self.takes:
                raise ConfigError(f"{option} is {value!r}; the estimator {name!r} does not take that option")
        return make(**{option: value for option, value in options.items() if value is not None})
