"""The modules of a device's operations, as attributes: ``device.kernels.dense.bind(...)``."""

from importlib import import_module
from typing import TYPE_CHECKING

from fgnumba.kernels import OPERATIONS, module_name

if TYPE_CHECKING:
    from fgnumba.kernels.devices import signatures


class Kernels:
    """The operations of one device: an attribute each, which is the module whose functions bind the operation.

    A module is imported when its attribute is read for the first time. For type checkers an attribute has the functions
    of ``fgnumba.kernels.devices.signatures``, so that they refuse an unknown operation, function or parameter.

    Parameters
    ----------
    device : str
        Name of the device, one of ``fgnumba.kernels.DEVICES``.

    Raises
    ------
    AttributeError
        There is no operation of that name.
    """

    attention: "type[signatures.Attention]"
    attention_noise: "type[signatures.AttentionNoise]"
    avg_pool2d: "type[signatures.AvgPool2d]"
    binary_cross_entropy: "type[signatures.BinaryCrossEntropy]"
    channel_sums: "type[signatures.ChannelSums]"
    conv2d: "type[signatures.Conv2d]"
    dense: "type[signatures.Dense]"
    descent: "type[signatures.Descent]"
    differences: "type[signatures.Differences]"
    dropout: "type[signatures.Dropout]"
    elementwise: "type[signatures.Elementwise]"
    elementwise_lstm: "type[signatures.ElementwiseLstm]"
    embedding: "type[signatures.Embedding]"
    error_signal: "type[signatures.ErrorSignal]"
    example_panels: "type[signatures.ExamplePanels]"
    feedback: "type[signatures.Feedback]"
    gauss_newton: "type[signatures.GaussNewton]"
    gram: "type[signatures.Gram]"
    group_norm: "type[signatures.GroupNorm]"
    gru: "type[signatures.Gru]"
    huber: "type[signatures.Huber]"
    layer_norm: "type[signatures.LayerNorm]"
    least_mean_squares: "type[signatures.LeastMeanSquares]"
    linear_recurrent_unit: "type[signatures.LinearRecurrentUnit]"
    lstm: "type[signatures.Lstm]"
    max_pool2d: "type[signatures.MaxPool2d]"
    mean_squared_error: "type[signatures.MeanSquaredError]"
    min_gru: "type[signatures.MinGru]"
    noise: "type[signatures.Noise]"
    noise_response: "type[signatures.NoiseResponse]"
    normalization_slope: "type[signatures.NormalizationSlope]"
    optimizer: "type[signatures.Optimizer]"
    output_curvature: "type[signatures.OutputCurvature]"
    positional_embedding: "type[signatures.PositionalEmbedding]"
    projection: "type[signatures.Projection]"
    rms_norm: "type[signatures.RmsNorm]"
    rotary: "type[signatures.Rotary]"
    signs: "type[signatures.Signs]"
    softmax_cross_entropy: "type[signatures.SoftmaxCrossEntropy]"
    traces: "type[signatures.Traces]"
    weighted_cross_entropy: "type[signatures.WeightedCrossEntropy]"

    def __init__(self, device: str) -> None:
        self._device = device

    if not TYPE_CHECKING:
        # Type checkers must not see this function: it would make every name an attribute.
        def __getattr__(self, name):
            if name not in OPERATIONS:
                raise AttributeError(f"{name!r} is not the name of an operation")
            # Kept, so that the next read finds it without this function.
            module = self.__dict__[name] = import_module(module_name(name, self._device))
            return module
