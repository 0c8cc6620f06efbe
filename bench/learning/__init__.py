"""How well estimators learn, and what a run's gradients are like while it trains."""
