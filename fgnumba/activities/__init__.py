"""Activity perturbation: where noise goes in, what is observed, and the pass that turns both into gradients."""

from fgnumba.activities.plan import ActivityPlan
from fgnumba.activities.settings import Feedback, LocalLosses

__all__ = ["ActivityPlan", "Feedback", "LocalLosses"]
