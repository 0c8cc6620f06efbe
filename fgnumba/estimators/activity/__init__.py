"""Activity perturbation: add noise to what layers compute, and estimate gradients from how the outputs change."""

from fgnumba.estimators.activity.estimator import RECIPES, ActivityPerturbation
from fgnumba.estimators.activity.plan import ActivityPlan
from fgnumba.estimators.activity.settings import Feedback, LocalLosses

__all__ = ["RECIPES", "ActivityPerturbation", "ActivityPlan", "Feedback", "LocalLosses"]
