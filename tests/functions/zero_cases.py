"""Functions whose derivative is zero wherever there is one, functions of integers, and functions that are refused."""

ZEROS = {
    **{
        f"np.{name}": f"np.{name}(s)"
        for name in [
            "ceil",
            "floor",
            "rint",
            "round",
            "sign",
            "trunc",
            "spacing",
            "isfinite",
            "isinf",
            "isnan",
            "signbit",
        ]
    },
    **{
        f"math.{name}": f"math.{name}(s)" for name in ["ceil", "floor", "trunc", "isfinite", "isinf", "isnan"]
    },
    **{
        f"np.{name}": f"np.{name}(a)"
        for name in [
            "argmax",
            "argmin",
            "nanargmax",
            "nanargmin",
            "count_nonzero",
            "any",
            "all",
            "size",
            "isrealobj",
            "iscomplexobj",
        ]
    },
    **{
        f"np.{name}": f"np.{name}(a)[0]"
        for name in [
            "argsort",
            "flatnonzero",
            "zeros_like",
            "ones_like",
            "isreal",
            "iscomplex",
            "isneginf",
            "isposinf",
            "shape",
        ]
    },
    **{
        f"np.{name}": f"np.{name}(s, 0.5)"
        for name in [
            "equal",
            "not_equal",
            "less",
            "less_equal",
            "greater",
            "greater_equal",
            "logical_and",
            "logical_or",
            "logical_xor",
        ]
    },
    "np.logical_not": "np.logical_not(s)",
    "np.floor_divide": "np.floor_divide(s, 0.2)",
    "np.argpartition": "np.argpartition(a, 1)[0] * 0",
    "np.argwhere": "np.argwhere(a)[0, 0]",
    "np.nonzero": "np.nonzero(a)[0][0]",
    "np.searchsorted": "np.searchsorted(np.array([0.1, 0.2]), s)",
    "np.digitize": "np.digitize(a, np.array([0.1, 0.2]))[0]",
    "np.allclose": "np.allclose(a, a)",
    "np.isclose": "np.isclose(a, a)[0]",
    "np.array_equal": "np.array_equal(a, a)",
    "np.isin": "np.isin(a, np.array([0.1]))[0]",
    "np.isscalar": "np.isscalar(s)",
    "np.empty_like": "np.empty_like(a).size",
    "np.tril_indices_from": "np.tril_indices_from(A)[0][0]",
    "np.triu_indices_from": "np.triu_indices_from(A)[0][0]",
    "np.linalg.matrix_rank": "np.linalg.matrix_rank(S)",
    "int": "int(s)",
    "np.around": "np.around(s)",
    "len": "len(a)",
    "round": "round(s)",
}
"""An expression with each; its tangent is zero."""

WITHOUT_NUMBERS = frozenset(
    [
        "math.gcd",
        "np.gcd",
        "np.lcm",
        "np.bitwise_and",
        "np.bitwise_or",
        "np.bitwise_xor",
        "np.bitwise_not",
        "np.left_shift",
        "np.right_shift",
        "np.invert",
        "np.bitwise_invert",
        "np.bitwise_left_shift",
        "np.bitwise_right_shift",
        "np.isnat",
        "np.empty",
        "np.zeros",
        "np.ones",
        "np.eye",
        "np.identity",
        "np.indices",
        "np.tri",
        "np.tril_indices",
        "np.triu_indices",
        "np.bartlett",
        "np.blackman",
        "np.hamming",
        "np.hanning",
        "np.broadcast_shapes",
        "np.frombuffer",
        "np.ndindex",
        "np.random.seed",
        "np.random.rand",
        "np.random.randn",
        "np.random.randint",
        "np.random.random",
        "np.random.random_sample",
        "np.random.ranf",
        "np.random.sample",
        "np.random.standard_normal",
        "np.random.standard_exponential",
        "np.random.standard_cauchy",
        "range",
    ]
)
"""Functions of integers, shapes and Booleans alone: what they give is constant."""

REFUSED = {
    "np.arange": "np.arange(s, 2.0)[0]",
    "np.angle": "np.angle(s)",
    "np.histogram": "np.histogram(a)[1][0]",
    "np.intersect1d": "np.intersect1d(a, a)[0]",
    "np.kaiser": "np.kaiser(3, p)[0]",
    "np.nditer": "np.nditer(a)",
    "np.roots": "np.roots(a)[0].real",
    "np.setdiff1d": "np.setdiff1d(a, b)[0]",
    "np.setxor1d": "np.setxor1d(a, b)[0]",
    "np.trim_zeros": "np.trim_zeros(a)[0]",
    "np.union1d": "np.union1d(a, b)[0]",
    "np.unique": "np.unique(a)[0]",
    "np.fill_diagonal": "np.fill_diagonal(A, s)",
    "np.linalg.eig": "np.linalg.eig(A)[0][0]",
    "np.linalg.eigvals": "np.linalg.eigvals(A)[0]",
    "np.linalg.lstsq": "np.linalg.lstsq(A, b)[0][0]",
    "np.linalg.svd": "np.linalg.svd(A)[1][0]",
    **{
        f"np.random.{name}": f"np.random.{name}(p)"
        for name in [
            "chisquare",
            "exponential",
            "geometric",
            "logseries",
            "pareto",
            "poisson",
            "power",
            "rayleigh",
            "standard_gamma",
            "standard_t",
            "weibull",
            "zipf",
        ]
    },
    **{
        f"np.random.{name}": f"np.random.{name}(p, 2.0 * p)"
        for name in [
            "beta",
            "f",
            "gamma",
            "gumbel",
            "laplace",
            "logistic",
            "lognormal",
            "normal",
            "uniform",
            "vonmises",
            "wald",
        ]
    },
    "np.random.binomial": "np.random.binomial(3, p)",
    "np.random.choice": "np.random.choice(a)",
    "np.random.dirichlet": "np.random.dirichlet(a)[0]",
    "np.random.hypergeometric": "np.random.hypergeometric(p, 2, 2)",
    "np.random.multinomial": "np.random.multinomial(3, a)[0]",
    "np.random.negative_binomial": "np.random.negative_binomial(3, p)",
    "np.random.noncentral_chisquare": "np.random.noncentral_chisquare(p, p)",
    "np.random.permutation": "np.random.permutation(a)[0]",
    "np.random.shuffle": "np.random.shuffle(a)",
    "np.random.triangular": "np.random.triangular(-1.0, s, 2.0)",
}
"""An expression with each that has no derivative rule."""
