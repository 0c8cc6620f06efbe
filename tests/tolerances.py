"""Every tolerance of the numeric tests, by dtype and quantity, with its source.

A numeric test has no tolerance of its own (``test_tolerances.py`` checks that): it compares by an entry of this table,
and a bound may only grow together with a derivation that says why. Comparisons with a float64 reference are of float32
results unless an entry says otherwise.

Two rules give most of the bounds. The rounding error of a float32 number x is at most U |x|, where U = 2**-24 is half
the spacing of floats just above a power of two; for float64 it is D |x| with D = 2**-53. Rounding errors have both
signs, so that many of them add up like a random walk, of which `DEVIATIONS` standard deviations are allowed. The
order of sums, and which products and sums are fused, depend on the processor: no bound may depend on either.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

U, D = 2.0**-24, 2.0**-53
"""Greatest relative rounding of float32 and of float64."""

DEVIATIONS = 5
"""Standard deviations of a random walk, or standard errors of a statistic: exceeded once in 1.7 million times."""


@dataclass(frozen=True)
class Within:
    """A bound ``absolute + relative |expected|`` on every entry's error.

    Parameters
    ----------
    relative : of the expected value.
    absolute : in the unit of what is compared.
    """

    relative: float = 0.0
    absolute: float = 0.0

    def check(self, found: Any, expected: Any, what: str = "") -> None:
        """Fail where an entry of `found` is further away from `expected`; say of what, which, and by how much."""
        np.testing.assert_allclose(found, expected, rtol=self.relative, atol=self.absolute, err_msg=what)


# Float32: single numbers.
# Units in the last place of each result. Each step of the last few rounds once (half a unit), and what goes into a
# division or a product at the end of a binade counts double. Each bound, here and of activations, stands a tenth or
# more above the largest error over every 97th float32.
ELEMENTARY_ULPS = {
    "exp": (1.3,),  # 1 + p after p: half a unit, and half a unit of p <= 0.42; coefficients 0.1
    "expm1": (2.0,),  # p is the result near 0; at 0.37, 2 p - 1 is half of p in size
    "exp_expm1": (1.3, 2.0),  # as those two
    "log": (1.2,),  # one sum of parts much smaller than the result
    "log1p_unit": (2.0,),  # the last product of two rounded factors, the result below the middle of a binade
    "log1p_exp": (3.2,),  # exp, then log1p_unit
    "sigmoid": (3.5,),  # exp, a sum, a reciprocal, a product
    "tanh": (3.4,),  # expm1, a sum, a reciprocal, a product
    "erf": (3.4,),  # a polynomial, a product, expm1; 0.4 from the rounded 2 / sqrt(pi)
    "normal_cdf_pdf": (6.5, 2.5),  # two polynomials of positive terms, a quotient, exp, a product
    "sincos_eighth": (2.0, 2.0),  # the rounded 2 pi, a product of two rounded factors
}
# Relative bounds of value and derivative; 6e-8 is U.
ACTIVATIONS = {
    "identity": (0.0, 0.0),  # nothing is rounded
    "relu": (0.0, 0.0),  # nothing is rounded
    "leaky_relu": (1.2e-7, 6e-8),  # the rounded 0.01, a product
    "tanh": (3e-7, 4.5e-7),  # expm1, a reciprocal, a product; exp and that reciprocal's square
    "sigmoid": (2.6e-7, 4e-7),  # exp, a reciprocal, a product; one product more
    "gelu": (6e-7, 9e-7),  # the normal distribution function (4.3e-7), a product; a difference
    "silu": (3.5e-7, 1e-6),  # sigmoid, a product; the derivative holds a difference
    "softplus": (2.6e-7, 2.6e-7),  # exp, a polynomial, a product; sigmoid
    "elu": (1.5e-7, 1.1e-7),  # expm1; exp
}
SUBNORMAL_ACTIVATION = 256 * 2.0**-149
"""A product of z, below 110 in the tests, and of an exponential that has run into the subnormals."""
CROSSING_WIDTH, CROSSING = 0.25, 1e-7
"""So near its zero a derivative is the difference of two numbers near 0.25, each wrong by up to three roundings."""
ELEMENTWISE = Within(32 * U, 32 * U)
"""A sum, an activation, and its slope times a tangent of up to 4: tanh is wrong by 7 U, 1 - tanh² by 14 U."""
CARRIED = Within(16 * U)
"""One number through a few operations, at most sixteen roundings; what cancels is not among them."""
POOLED, AVERAGED = Within(5 * U), Within(absolute=16 * U)
"""Exact numbers, over a window's pixels: a reciprocal, a product, a unit; any, of their mean size: 8 U of sixteen."""
WEIGHTED_SIGNAL = Within(80 * U, 32 * U)
"""A slope (`ELEMENTWISE`) times what is known, and up to three terms of noise of either sign, over eight."""
GAUSSIAN = Within(absolute=16 * U)
"""Box and Muller's numbers: logarithm, root and sine or cosine round once each, of a radius of up to 5.4."""
GAUSSIAN_ON_A_GPU = Within(absolute=80 * U)
"""The same with the card's approximations: five times the roundings."""

# Float32: sums.


def sums(terms: int, size: float = 1.0) -> Within:
    """Return the bound of a float32 sum of `terms` products of both signs, in whatever order it is added up.

    `size` is a product's standard deviation.
    The k-th partial sum is about √k and is rounded by U √k / √3 (a standard deviation): together 0.41 U n, of which
    `DEVIATIONS` are 2 U n. Products are rounded, too: U / √3 each, together 3 U √n. Products of normal numbers have
    greater ones among them, which the relative part allows for.
    """
    return Within(16 * U, size * U * (2 * terms + 3 * math.sqrt(terms)))


def positive_sums(terms: int) -> Within:
    """Return the bound of a float32 sum of `terms` positive numbers, squares of slopes for example.
    Each partial sum is rounded by U / √3 of itself, at most of the whole: `DEVIATIONS` of the walk are 3 U √n. The
    terms themselves are right to 32 U, `ELEMENTWISE`.
    """
    return Within(U * (32 + 3 * math.sqrt(terms)))


def weighted_sums(inputs: int) -> Within:
    """Return the bound of a layer's values and tangents on a GPU: sums of `inputs` products of order 1.
    Factors that are Gaussians drawn on the card are wrong by up to 5e-6, 3e-6 as a standard deviation;
    `DEVIATIONS` of the walk. What is rounded in the sum itself is less (`sums`) up to 10,000 inputs.
    """
    return Within(16 * U, DEVIATIONS * 3e-6 * math.sqrt(inputs))


def gaussian_products(entries: int, block: int = 128) -> Within:
    """Return the bound of the products of drawn Gaussian directions, of so many entries, as a GPU adds them up.
    Blocks of up to 128 squares are added up in float32, `positive_sums` of them, of a size of 128; blocks in float64,
    whose errors walk.
    """
    together = min(entries, block)
    return Within(absolute=3 * U * together * math.sqrt(entries))


def projections(entries: int) -> Within:
    """Return the bound of products of a direction with values of order 1, eight added up in float32 at a time.

    Eight terms have partial sums of up to √8, each rounded by U / √3 of that: `DEVIATIONS` of the walk are 8 U √n. The
    other half is for factors that are Gaussians.
    """
    return Within(absolute=16 * U * math.sqrt(entries))


NORM = Within(3 * U)
"""A norm whose squares are added up by four in float32, and then in float64: two roundings, and that of the result."""
NORMALISED = Within(320 * U, 320 * U)
"""x less its mean: two roundings of numbers up to 4, eight after the scale, over a deviation that may be a tenth."""
NORMALISED_WIDE = Within(160 * U, 160 * U)
"""The same where deviations are of order 1, and scales up to 2."""
NORMALISED_MANY = Within(800 * U, 800 * U)
"""The same of units of 7,000 numbers: their variances are wrong by 3 U √7000 = 250 U, scales up to 2."""
NORMALISED_EXACTLY = Within(absolute=16 * U)
"""Of what is added up, whatever its mean: centred numbers by 6 U of the largest, 1 / σ by 5, products and sums by 5."""
FILTERED = 80 * U
"""Winograd's filtering beside direct sums, of the largest value. A tile's places hold sums of up to 16 pixels, a pixel
is a sum of up to nine places; they and the sums over 48 channels round by some units of the largest value."""
INSTRUCTION_SETS = sums(67, 20.0)
"""The same sums of 67 terms, tangents up to some tens, where multiply-adds fuse and where they do not."""
TENSOR_CORE_BITS = {"tf32": 10, "bf16": 7}
"""Bits of a factor's fraction: two factors of order 1 are each rounded by up to half a unit."""


def tensor_cores(precision: str, terms: int) -> tuple[float, float]:
    """Return what the largest error of sums of `terms` products of rounded factors lies between.

    Errors of products are of the order of a unit, up to four of it where factors are; they walk. The least is a
    sixteenth of a unit: less would mean that nothing was rounded.
    """
    unit = 2.0 ** -TENSOR_CORE_BITS[precision]
    return unit / 16, 2 * unit * math.sqrt(terms)


# Float32: losses, derivatives, gradients.
LOSS = Within(32 * U, 32 * U)
"""Softmax cross-entropy and its derivatives: a sum of `width` terms of both signs, each about 1, over the batch."""
LOSS_OF_HUGE_LOGITS = Within(16 * U, 16 * U)
"""Logits that are exact: what is rounded is the exponentials' sum, its logarithm and a difference."""
LOSS_OF_CERTAIN_EXAMPLES = Within(absolute=2 * U)
"""log(1 + e⁻¹⁵) in a float32 beside 1: one spacing there."""
RESIDUAL, RESIDUAL_SUM = Within(32 * U, 3 * U), Within(absolute=U)
"""p - y: a float32 quotient of an exponential and a sum; beside 1 a spacing, and a rounding. What they add up to: the
target's own is minus the others' sum, rounded once."""
SQUARED_RESIDUAL = Within(16 * U, 16 * U)
"""Two roundings of a difference of numbers up to 10 or so."""
PROBABILITIES = Within(absolute=16 * U)
"""Sums of ten probabilities in float32: each is a quotient, rounded twice; beside 1."""

MODEL_LOSS = Within(160 * U, 16 * U)
"""The loss of a model of up to five layers: `DERIVATIVE`, and an absolute part where it is near 0."""
GRAPH_LOSS = Within(160 * U, 160 * U)
"""The same of a graph with normalisations, whose logits are of order 1 where the loss is not."""
SAME_LOSS = Within(16 * U)
"""The same loss from two plans, or from outputs: in another order of sums, averaged over the batch."""

DERIVATIVE = 160 * U
"""Of ‖∇f‖‖v‖, the largest that a directional derivative can be, and of ‖∇f‖ the error of a gradient: ten sums in a row
(five layers, primal and tangent) of 256 terms, each wrong by U √256 of its vector's length."""
ESTIMATE = 2 * DERIVATIVE
"""Of an estimate's norm: differences of two sums as above."""
NOISE_ALONE = {"perceptron": 1e-12, "reverse": 1e-9, "activity": 1e-9, "graph": 2 * U}
"""What a derivative of zero may be instead: of one class, p - y is 0, and what is left is float64's rounding of a mean;
in reverse mode, and of activity noise, p - y of all but certain examples (e⁻¹⁶ of a rounding, U / 64); in graphs, whose
normalisations make tangents of order 1, p - y is wrong by a spacing of float32 beside 1, 2 U."""
NEAR_A_KINK = 1e-6
"""Of a layer's largest value: a unit that is nearer to its kink may stand on its other side in float32, 16 U."""
REPEATED = Within(320 * U, 16 * U)
"""A derivative along one of several directions beside that along it alone: sums of 36 to some hundred, some of them
cancelling, since a derivative is small beside ‖∇f‖‖v‖."""
ALONG_NOISE = Within(1600 * U)
"""A derivative beside another way of the same, which is a tenth or more of ‖∇f‖‖v‖: ten times `DERIVATIVE`."""
PEERS_GRADIENT = 1600 * U
"""Of a gradient's norm, beside another framework's: both are wrong by `DERIVATIVE` at most, theirs in convolutions of
3,136 products (√3136 / √256 as much) and with whatever algorithm they choose."""
PEERS_BF16_LOSS = Within(4 * 2.0**-9)
"""A loss of order 1 in bfloat16 beside that in float32: four roundings to 8 bits, the last of the loss itself. Those
within a product have both signs."""
PEERS_BF16_GRADIENT = 0.3
"""Of the norm. Roundings to bfloat16 move a unit in some 250 over its kink, 2^-9 times the two roundings of a product,
which changes all that it passes on: √(1/250) = 0.06 a layer. Five layers are 0.14, twice that where a bias sums over
positions that cancel."""
CHECKED_LAYER = 160 * U
"""Of the largest value or tangent of a layer's output: sums of up to some hundred terms, `sums`, and `NORMALISED`."""
CHECKED_LOSS = 32 * U
"""Of a loss, as `LOSS`; of a derivative, of what its terms add up to without their signs."""

PROJECTED = 1600 * U
"""Of a projected estimate's norm: `DERIVATIVE` times the condition, below 10, of directions nearly orthogonal."""
PROJECTED_ANY = 16_000 * U
"""The same of a few parameters, whose directions may nearly depend on each other: conditions to 100."""
GAUSS_NEWTON = 160 * U
"""Of the root of the product of two diagonal entries of a Gauss-Newton matrix: sums of up to 512 products of rows of
these lengths, whose roundings walk (3 U √512), of factors that are right to `ELEMENTWISE` (64 U together)."""
SOLVED = Within(1e-10, 1e-10)
"""Float64 solutions of systems with conditions below 1,000, of order 1: D times the condition and the rows, 129."""
MINIMUM_OF_A_QUADRATIC = Within(16_000 * U, 16_000 * U)
"""Parameters of order 1 after one step to the minimum: `GAUSS_NEWTON` times the condition, up to some hundred, of as
many Gaussian directions as parameters, 32."""
GRAM_RANK = 1e-9
"""Of the largest singular value: those below belong to directions that depend on others; float64's are 1e-16."""
PROJECTED_ALL = Within(16_000 * U, 1600 * U)
"""As many Gaussian directions as parameters: a square matrix, whose condition is about their number (23)."""
LEARNED_HEAD = Within(absolute=160 * U)
"""A matrix of order 1 that a filter has learned in 300 steps, to the roundings of the last few (16 U seen)."""
FEEDBACK = Within(1600 * U, 160 * U)
"""Feedback matrices after a step: a gain times `ESTIMATE` of responses, beside entries of order 1."""

# Float32: finite differences.


def difference(epsilon: float, loss: float, batch: int, sides: int = 2) -> float:
    """Return how wrong a central difference of float32 losses may be: (f(θ + ε v) - f(θ - ε v)) / 2 ε.

    Parameters
    ----------
    epsilon : ε.
    loss : size of the losses, the mean over the batch.
    batch : number of examples, each of whose losses is a float32.
    sides : 2 where two implementations are compared, each with roundings of its own; 1 beside exact losses.

    An example's loss is rounded some four times: its logits, the exponentials' sum, the logarithm, the difference. A
    rounding is up to half of float32's spacing there, and 1 / √3 of it as a standard deviation. The mean over the batch
    has it over √B; two losses a side have √2 of it; `DEVIATIONS` of that, over 2 ε. With ε = 1e-3, a loss of 1.4, and 6
    examples it is 1.4e-4; 6e-5 was seen where code for two processors fuses otherwise.
    """
    rounding = float(np.spacing(np.float32(loss))) / 2 / math.sqrt(3)
    return DEVIATIONS * rounding * math.sqrt(4 * 2 * sides / batch) / (2 * epsilon)


DIFFERENCE_BIAS = 0.02
"""Of the gradient's largest entry, and of a variance: what a central difference is wrong by without any rounding.
ε² / 6 of the third derivative is 1e-4 or less; ε = 1e-2 takes a hundredth of the ReLU units over their kink: 0.011."""

# Float32: updates and training.


def updates(scale: float = 1.0) -> Within:
    """Return the bound of parameters after an update of numbers of size `scale`: sixteen roundings at most."""
    return Within(absolute=16 * U * scale)


def descent(kind: str) -> Within:
    """Return the bound of gradients, moments and parameters after an update along drawn directions of a `kind`.

    The mean of T terms d v, and two products and sums more, of numbers up to 4; entries of a Gaussian are wrong by
    `GAUSSIAN` and up to 5.4 instead of 1, of which up to 2 are multiplied.
    """
    return Within(absolute=(48 if kind == "gaussian" else 16) * U)


GRADIENT_STEP = Within(160 * U, 32 * U)
"""Parameters of order 1 after a step along a gradient, beside the gradient by itself: fused into the products, the
update has another order of sums, `DERIVATIVE` times the rate."""
ACTIVITY_STEP = Within(1600 * U, 16 * U)
"""The same along an estimate of float64: `ESTIMATE` of entries that may be a fifth of its largest."""
WEIGHT_STEP = Within(1600 * U, 160 * U)
"""The same along an estimate of weight perturbation; Adam's step of a first gradient g is g / (|g| + ε)."""
OPTIMISER_STEP = Within(32 * U, 16 * U)
"""One step of a rule: a few roundings of numbers of order 1; Adam divides by √v, no smaller than 0.01 in the tests."""
OPTIMISER_STEPS = Within(320 * U, 32 * U)
"""Twelve steps of a rule, one after another: some two roundings of a parameter each, and those of its moments."""
BALL = 16 * U
"""A point of a unit ball stays in it: a convex mean of two, each rounded."""
FITTED = Within(absolute=1e-4)
"""Least squares without noise after 600 steps, ten times what AdamW's decay of 1e-4 keeps it off by, 9e-6."""
FITTED_IN_A_BALL = Within(absolute=0.02)
"""The same by Frank-Wolfe in a ball of radius 3: its last step is 2 / 602 of 4.2, the way to its edge: 0.014."""
FITTED_ON_A_SPHERE = Within(absolute=160 * U)
"""The same at the edge of a unit ball, at a rate of 0.1: 0.9²⁰⁰ is 1e-9; what is left is a few steps' `PROJECTED`."""
UNMOVED = Within(absolute=1e-9)
"""Parameters after three steps of the benchmarks' rate, 1e-12, along derivatives below 100: 3e-10 (1e-12 seen)."""

GPU_TRAINING = Within(absolute=32 * U)
"""Losses, outputs, parameters after a few steps beside the CPU's: another order of sums, steps of some hundredths."""
GPU_DERIVATIVES = Within(absolute=320 * U)
"""Derivatives along directions of length √P, 10: `DERIVATIVE` of ‖v‖ and a gradient of order 0.2."""
GPU_JVP = Within(absolute=160 * U)
"""The same before any step, of one pass, with one rounding of the parameters the less."""


def adam_after_differences(rate: float, errors: Any, derivatives: Any) -> Within:
    """Return how far parameters may be apart after steps of Adam, at a rate, along derivatives apart by `errors`.
    Adam divides by the gradient's own size: a step changes by what the derivative does, relative to itself, and by at
    most a rate there and back.
    """
    shares = np.asarray(errors) / np.maximum(np.abs(np.asarray(derivatives)), np.finfo(np.float32).tiny)
    return Within(absolute=GPU_TRAINING.absolute + rate * float(np.sum(np.minimum(shares, 2.0))))


APART = {
    ("mlp", "weight-perturbation"): 1e-4,
    ("mlp", "default"): 3e-4,
    ("cnn", "weight-perturbation"): 1e-2,
    ("cnn", "default"): 0.15,
}
"""A GPU's training beside the CPU's, of the way that parameters have gone. On the CPU, those that differ by 2e-7 at
first are apart by 5e-6, 2e-5, 1e-3 and 1.5e-2 of it after these steps: where maxima and rectifiers are nearly
undecided, rounding decides. Ten times that and more."""
APART_LOSS = 0.1
"""Of the above, a loss's error: of the second order, and its own sum's."""
UNDECIDED = 1e-2
"""A sum of 1,024 products, wrong by up to `weighted_sums`, may have another sign where it is smaller: 20 times that,
so that no unit is compared whose sign is in doubt."""
OTHER_PROCESSORS = {1: 8 * U, 10: 16 * U, 100: 160 * U}
"""Relative differences of losses up to so many steps where code is for another processor: how a vector's lanes are
added up, whether multiply-adds fuse. Steps towards a minimum amplify them little. Measured: 5e-8, 1.2e-7, 1.7e-6."""

PARAMETERS_OF_OTHER_PROCESSORS = 1600 * U
"""Of an array's greatest entry, parameters after up to a hundred steps there. Adam divides a gradient by its own size,
so that roundings of small ones count: ten times the losses' bound. Measured: 4.8e-7 to 6.1e-5."""


def taken_back(*points: npt.NDArray[Any]) -> Within:
    """Return how far parameters may be from where they were once a step was taken back, `points` before and after it.

    θ - η g + η g: the step rounds to the spacing of the larger of the two points, and taking it back once more; a
    momentum adds as much.
    """
    return Within(absolute=8 * U * max(float(np.abs(point).max()) for point in points))


# Float64.
EXACT_SCHEDULE = Within(90 * D)
"""A rate: exponentials and cosines of NumPy and of the standard library, an argument of up to 60 rounded before."""
EXACT_PRODUCT = Within(9 * D)
"""A product of two rounded factors."""
EXACT_MEAN = Within(1000 * D, 10 * D)
"""Means and central differences in another order, up to 600 numbers of order 1."""
EXACT_SUMS = Within(9000 * D, 9000 * D)
"""Sums of up to a few thousand numbers of order 1, in another order."""
EXACT_SOLUTION = Within(9e4 * D)
"""A Cholesky factorisation of a matrix whose condition is below 100."""
EXACT_SOLUTION_OF_MANY = Within(9e6 * D)
"""The same of 600 directions, or where one that depends on others is left out: sums of 2,400 products."""
# Terms of up to (5 + 5·5³)² = 4e5, of which a few cancel; of up to 100·30² = 9e4, derivatives of 200·30·55·8 = 3e6.
EXACT_FUNCTION = {
    "beale": (Within(9000 * D, 1e-9), Within(9000 * D, 1e-8)),
    "rosenbrock": (Within(9000 * D, 1e-10), Within(9000 * D, 1e-8)),
}
"""Value and derivative of a test function at points up to 5."""
EXACT_LINEAR = Within(900 * D)
"""A derivative along a sum of two directions beside the sum of two derivatives."""
FLOAT64_DIFFERENCE = 1e-6
"""Step of central differences in float64: truncation 1e-12, rounding D / 1e-6 = 1e-10; far below `DERIVATIVE`."""
COUNTED = Within(1e-6)
"""A quotient of counts, or of numbers that a test chose: anything but these would be far away."""

# Statistics.
CONFIDENCE = 1 - 1e-6
"""A test of estimators fails by chance once in a million times, were its statistics exactly normal."""


def quantile(tests: int = 1) -> float:
    """Return how many standard errors bound each of `tests` statistics, all of them with `CONFIDENCE`."""
    return NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / (2 * tests))


UNLIKELY = 1e-6
"""A distribution is not the one it should be where as much or more deviation is as rare as this."""
OF_THOUSANDS, OF_HUNDRED_THOUSANDS = 5.5, 6.2
"""Standard errors of the largest of 4,096, and of 262,144, normal numbers: exceeded once in 6,000, and 7,000, times."""
OF_CONFIDENCE, SQUARED_ERROR = 6, 6
"""Standard errors of a share of 300 intervals; the squared error of a mean of n estimates, over 1 / n of one's."""
MEAN_ROUNDING = 1e-10
"""Of a gradient's squared norm: the mean's own rounding, (1e-5)², `DERIVATIVE`."""
ESTIMATE_ROUNDING = 1e-6
"""Of the mean of estimates, an entry: 16 U of entries up to 1."""

# Counts, and numbers that were published.

SPLIT_SHARE, SPLIT_COUNT = Within(absolute=0.01), Within(absolute=1)
"""A class's share of the digits' test data, one example in some 180 of it; and a class's count, which is whole."""
PAPER_GRADIENT = Within(absolute=5e-4)
"""Half a unit of the last of three digits."""
MNIST_MEAN = Within(absolute=5e-5)
"""Half a unit of the last of four digits."""
PAPER_DESCENT = Within(0.02)
"""Where a plot of the paper ends, read off it to two digits."""
CARD_CLOCK = Within(1e-2)
"""A data sheet's rate beside the one from a clock in whole megahertz."""
