"""Models whose layers follow one another."""

from collections.abc import Sequence

from fgnumba.errors import ConfigError, shown
from fgnumba.kernels.devices.device import Device
from fgnumba.layers import Composite, Layer, Shape
from fgnumba.layers.base import Element
from fgnumba.model.graph import Graph, Provider
from fgnumba.model.nodes import Node, check_channels_last


class Sequential(Graph):
    """A model in which each layer reads the one before. The layers' names are their numbers, counted from 0.

    Parameters
    ----------
    layers : sequence of Layer or Composite
        The layers, of which at least one must compute something.
    input_shape : tuple of int, or int
        The shape of one example, as for :class:`Graph`.
    seed : int, optional
        The seed of the initial parameters. By default 0.
    device : str or Device, optional
        The device, as for :class:`Graph`. By default ``auto``.
    initial : callable, optional
        A function that returns the initial parameters, as for :class:`Graph`. By default they are drawn.

    Raises
    ------
    ShapeError, ConfigError, DeviceError
        For the same reasons as :class:`Graph`. An input shape such as (1, 28, 28) or (3, 32, 32) with convolutions or
        pooling is refused, since it has the channels first; a :class:`Graph` takes it.

    Examples
    --------
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.Flatten(), fg.Dense(10)], input_shape=(8, 8, 1))
    >>> {name: array.shape for name, array in model.parameters().items()}
    {'1.weight': (64, 10), '1.bias': (10,)}
    """

    def __init__(
        self,
        layers: Sequence[Element],
        input_shape: Shape | int,
        seed: int = 0,
        device: str | Device = "auto",
        initial: Provider | None = None,
    ) -> None:
        if not hasattr(layers, "__iter__"):
            raise ConfigError(f"layers is {shown(layers)}; several layers are required, as [Dense(10)]")
        self.layers = tuple(layers)
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Layer | Composite):
                raise ConfigError(f"layers[{index}] is {shown(layer)}; a layer is required, as Dense(10)")
            if layer.inputs[0] > 1:
                raise ConfigError(f"layers[{index}]: {layer.kind} joins several inputs; use a Graph")
        check_channels_last(self.layers, input_shape)
        nodes = [Node(str(index), layer) for index, layer in enumerate(self.layers)]
        super().__init__(nodes, input_shape, seed=seed, device=device, initial=initial)

    def _place(self, name: str) -> str:
        # The name of a composite's part begins with the composite's number.
        number, _, part = name.partition("_")
        return f"layers[{number}], {name}" if part else f"layers[{number}]"

    def __repr__(self) -> str:
        return (
            f"Sequential({list(self.layers)}, input_shape={self.input_shape}, device={self.processor.text})"
        )
