"""The functions of each operation that code for any device may call, with the parameters of those for the CPU.

Type checkers read this module to check calls such as ``device.kernels.dense.bind(...)``: a module cannot be declared as
the type of an attribute, a class with the same functions can. Every other device has the same functions, whose
parameters have the same names; its arrays are its own, which is why devices return them as ``Any``.
"""

from fgnumba.kernels.ops.attention import cpu as attention
from fgnumba.kernels.ops.attention_noise import cpu as attention_noise
from fgnumba.kernels.ops.avg_pool2d import cpu as avg_pool2d
from fgnumba.kernels.ops.binary_cross_entropy import cpu as binary_cross_entropy
from fgnumba.kernels.ops.channel_sums import cpu as channel_sums
from fgnumba.kernels.ops.conv2d import cpu as conv2d
from fgnumba.kernels.ops.dense import cpu as dense
from fgnumba.kernels.ops.descent import cpu as descent
from fgnumba.kernels.ops.differences import cpu as differences
from fgnumba.kernels.ops.dropout import cpu as dropout
from fgnumba.kernels.ops.elementwise import cpu as elementwise
from fgnumba.kernels.ops.elementwise_lstm import cpu as elementwise_lstm
from fgnumba.kernels.ops.embedding import cpu as embedding
from fgnumba.kernels.ops.error_signal import cpu as error_signal
from fgnumba.kernels.ops.example_panels import cpu as example_panels
from fgnumba.kernels.ops.feedback import cpu as feedback
from fgnumba.kernels.ops.gauss_newton import cpu as gauss_newton
from fgnumba.kernels.ops.gram import cpu as gram
from fgnumba.kernels.ops.group_norm import cpu as group_norm
from fgnumba.kernels.ops.gru import cpu as gru
from fgnumba.kernels.ops.huber import cpu as huber
from fgnumba.kernels.ops.layer_norm import cpu as layer_norm
from fgnumba.kernels.ops.least_mean_squares import cpu as least_mean_squares
from fgnumba.kernels.ops.linear_recurrent_unit import cpu as linear_recurrent_unit
from fgnumba.kernels.ops.lstm import cpu as lstm
from fgnumba.kernels.ops.max_pool2d import cpu as max_pool2d
from fgnumba.kernels.ops.mean_squared_error import cpu as mean_squared_error
from fgnumba.kernels.ops.min_gru import cpu as min_gru
from fgnumba.kernels.ops.noise import cpu as noise
from fgnumba.kernels.ops.noise_response import cpu as noise_response
from fgnumba.kernels.ops.normalization_slope import cpu as normalization_slope
from fgnumba.kernels.ops.optimizer import cpu as optimizer
from fgnumba.kernels.ops.output_curvature import cpu as output_curvature
from fgnumba.kernels.ops.positional_embedding import cpu as positional_embedding
from fgnumba.kernels.ops.projection import cpu as projection
from fgnumba.kernels.ops.rms_norm import cpu as rms_norm
from fgnumba.kernels.ops.rotary import cpu as rotary
from fgnumba.kernels.ops.signs import cpu as signs
from fgnumba.kernels.ops.softmax_cross_entropy import cpu as softmax_cross_entropy
from fgnumba.kernels.ops.traces import cpu as traces
from fgnumba.kernels.ops.weighted_cross_entropy import cpu as weighted_cross_entropy


class Attention:
    bind = staticmethod(attention.bind)
    bind_gradients = staticmethod(attention.bind_gradients)


class AttentionNoise:
    bind_estimate = staticmethod(attention_noise.bind_estimate)


class AvgPool2d:
    bind = staticmethod(avg_pool2d.bind)


class BinaryCrossEntropy:
    bind = staticmethod(binary_cross_entropy.bind)
    bind_residual = staticmethod(binary_cross_entropy.bind_residual)


class ChannelSums:
    bind = staticmethod(channel_sums.bind)


class Conv2d:
    bind = staticmethod(conv2d.bind)
    gradient_border = staticmethod(conv2d.gradient_border)
    bind_gradient = staticmethod(conv2d.bind_gradient)


class Dense:
    bind = staticmethod(dense.bind)


class Descent:
    bind = staticmethod(descent.bind)
    bind_all = staticmethod(descent.bind_all)


class Differences:
    bind_keep = staticmethod(differences.bind_keep)
    bind_nudge = staticmethod(differences.bind_nudge)
    bind_central = staticmethod(differences.bind_central)
    bind_scatter = staticmethod(differences.bind_scatter)


class Dropout:
    bind = staticmethod(dropout.bind)


class Elementwise:
    bind = staticmethod(elementwise.bind)


class ElementwiseLstm:
    bind = staticmethod(elementwise_lstm.bind)


class Embedding:
    bind = staticmethod(embedding.bind)
    bind_gradient = staticmethod(embedding.bind_gradient)


class ErrorSignal:
    bind = staticmethod(error_signal.bind)


class ExamplePanels:
    bind_product = staticmethod(example_panels.bind_product)
    bind_to_panels = staticmethod(example_panels.bind_to_panels)
    bind_from_panels = staticmethod(example_panels.bind_from_panels)
    bind_rows_to_feature_panels = staticmethod(example_panels.bind_rows_to_feature_panels)


class Feedback:
    bind_gather = staticmethod(feedback.bind_gather)
    bind_subtract = staticmethod(feedback.bind_subtract)
    bind_weigh = staticmethod(feedback.bind_weigh)
    bind_turn = staticmethod(feedback.bind_turn)


class GaussNewton:
    bind = staticmethod(gauss_newton.bind)
    bind_solve = staticmethod(gauss_newton.bind_solve)
    bind_adapt = staticmethod(gauss_newton.bind_adapt)


class Gram:
    bind = staticmethod(gram.bind)
    shares = staticmethod(gram.shares)
    bind_combine = staticmethod(gram.bind_combine)


class GroupNorm:
    bind = staticmethod(group_norm.bind)


class Gru:
    bind = staticmethod(gru.bind)


class Huber:
    bind = staticmethod(huber.bind)
    bind_residual = staticmethod(huber.bind_residual)


class LayerNorm:
    bind = staticmethod(layer_norm.bind)


class LeastMeanSquares:
    bind = staticmethod(least_mean_squares.bind)


class LinearRecurrentUnit:
    bind = staticmethod(linear_recurrent_unit.bind)


class Lstm:
    bind = staticmethod(lstm.bind)


class MaxPool2d:
    bind = staticmethod(max_pool2d.bind)


class MeanSquaredError:
    bind = staticmethod(mean_squared_error.bind)
    bind_residual = staticmethod(mean_squared_error.bind_residual)


class MinGru:
    bind = staticmethod(min_gru.bind)


class Noise:
    bind = staticmethod(noise.bind)


class NoiseResponse:
    bind_copy = staticmethod(noise_response.bind_copy)
    bind_weigh = staticmethod(noise_response.bind_weigh)


class NormalizationSlope:
    bind = staticmethod(normalization_slope.bind)


class Optimizer:
    bind = staticmethod(optimizer.bind)
    square_sums = staticmethod(optimizer.square_sums)
    bind_squares = staticmethod(optimizer.bind_squares)
    bind_factor = staticmethod(optimizer.bind_factor)


class OutputCurvature:
    bind = staticmethod(output_curvature.bind)


class PositionalEmbedding:
    bind = staticmethod(positional_embedding.bind)
    bind_gradient = staticmethod(positional_embedding.bind_gradient)


class Projection:
    bind = staticmethod(projection.bind)


class RmsNorm:
    bind = staticmethod(rms_norm.bind)


class Rotary:
    bind = staticmethod(rotary.bind)


class Signs:
    bind = staticmethod(signs.bind)


class SoftmaxCrossEntropy:
    bind = staticmethod(softmax_cross_entropy.bind)
    bind_residual = staticmethod(softmax_cross_entropy.bind_residual)


class Traces:
    bind = staticmethod(traces.bind)
    bind_turned = staticmethod(traces.bind_turned)


class WeightedCrossEntropy:
    bind = staticmethod(weighted_cross_entropy.bind)
    bind_residual = staticmethod(weighted_cross_entropy.bind_residual)
