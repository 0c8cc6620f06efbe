"""Real-time recurrent learning: carry the derivatives of a recurrent layer's state forward in time."""

from fgnumba.estimators.recurrent.estimator import RECIPES, RealTimeRecurrentLearning

__all__ = ["RECIPES", "RealTimeRecurrentLearning"]
