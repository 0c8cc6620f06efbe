"""Activity perturbation: where noise goes in, what is observed, and the pass that turns both into gradients."""

from fgnumba.estimators.activity.estimator import RECIPES, ActivityPerturbation
from fgnumba.estimators.activity.plan import ActivityPlan
from fgnumba.estimators.activity.settings import Feedback, LocalLosses

__all__ = ["RECIPES", "ActivityPerturbation", "ActivityPlan", "Feedback", "LocalLosses"]
