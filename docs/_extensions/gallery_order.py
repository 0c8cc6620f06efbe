"""The order of the examples in the gallery: first programs first, then by subject."""

NAMES = (
    "train_on_digits",
    "own_data",
    "data_frame",
    "diabetes_regression",
    "breast_cancer_pipeline",
    "data_loader",
    "residual_network",
    "copy_task",
    "schedule_and_early_stopping",
    "log_a_run",
    "resume_and_replay",
    "pytorch_in_onnx_out",
    "compare_estimators",
    "derivative_along_a_direction",
    "descend_on_test_functions",
    # Those in ``examples/functions/``.
    "lotka_volterra",
    "lorenz",
    "pendulum",
    "hyper_gradient",
    "heat",
    "poisson_network",
    "lennard_jones",
    "phase_retrieval",
    "option_greeks",
    "logistic",
    "kalman",
    "fixed_point",
)
"""Names of the scripts in ``examples/`` and its folders; one that is not listed comes last."""


class Order:
    """Sorts file names as sphinx-gallery's ``within_subsection_order`` asks for.

    Parameters
    ----------
    folder : str
        The folder of the scripts.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, name: str) -> tuple[int, str]:
        """Return the key of a script's file name."""
        stem = name.removesuffix(".py")
        return NAMES.index(stem) if stem in NAMES else len(NAMES), stem
