"""Estimators for scikit-learn: a classifier and a regressor that are trained with forward gradients.

They follow scikit-learn's conventions, and so work in pipelines, in searches over parameters and with calibration.
They need scikit-learn, the extra ``[sklearn]``.
"""

try:
    from sklearn.utils.validation import validate_data as _  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fgnumba.sklearn needs scikit-learn 1.6 or newer: pip install 'fgnumba[sklearn]'"
    ) from error

from fgnumba.sklearn.classifier import ForwardGradientClassifier
from fgnumba.sklearn.regressor import ForwardGradientRegressor

__all__ = ["ForwardGradientClassifier", "ForwardGradientRegressor"]
