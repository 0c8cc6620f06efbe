"""
Regression, by scikit-learn and by a trainer
============================================

With the mean squared error as its loss, a model predicts real numbers, and a run is judged by R². This script predicts
the progression of diabetes from ten measurements: once with ``ForwardGradientRegressor`` in a scikit-learn pipeline,
which standardises the targets itself, and once with a trainer.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fgnumba as fg
from fgnumba.sklearn import ForwardGradientRegressor

X, y = load_diabetes(return_X_y=True)
regressor = ForwardGradientRegressor((16,), activation="tanh", max_iter=20, random_state=0)
folds = KFold(5, shuffle=True, random_state=0)
scores = cross_val_score(make_pipeline(StandardScaler(), regressor), X, y, cv=folds)
print(f"R² {scores.mean():.3f}, of each fold {', '.join(f'{score:.3f}' for score in scores)}")

# %%
# The same by a trainer. Data that are held out judge it while it trains, and its best parameters are kept.

inputs, targets = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
model = fg.Sequential([fg.Dense(16, activation="tanh"), fg.Dense(1)], input_shape=10, seed=0)
trainer = fg.Trainer(model, loss="mse", estimator="feedback", optimizer="adam")
stopping = fg.callbacks.EarlyStopping(10, monitor="validation_loss", restore_best=True)
history = trainer.fit(
    inputs, targets, epochs=60, validation=0.2, metrics=["mae"], callbacks=[stopping], batch_size=32
)
best = next(record for record in history.records if record.step == stopping.best_step)
print(f"R² on held-out data {best.metrics['validation_r2']:.3f} after {best.step} steps")

# %%
# Predictions beside the truth.

figure, axes = plt.subplots(figsize=(4.5, 4), layout="constrained")
axes.scatter(y, model(inputs)[:, 0] * y.std() + y.mean(), s=8)
axes.axline((150, 150), slope=1, color="grey", linewidth=1)
axes.set(xlabel="progression", ylabel="predicted")
plt.show()
