"""
Train on a data frame
=====================

``Trainer.fit`` takes data frames of pandas, polars and PyArrow, with labels of any kind, and metrics of scikit-learn.
This script trains on the wine data as a polars frame, and measures the macro-averaged F1 score while it trains. It
needs ``pip install 'fgnumba[frames]' polars``.
"""

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from sklearn.datasets import load_wine
from sklearn.metrics import f1_score

import fgnumba as fg

wine = load_wine()
frame = pl.DataFrame(wine.data, schema=wine.feature_names)
frame = frame.with_columns(pl.Series("cultivar", np.array(["Barolo", "Grignolino", "Barbera"])[wine.target]))

# %%
# Features are standardised by expressions of polars; the labels stay text.

features = frame.drop("cultivar").select((pl.all() - pl.all().mean()) / pl.all().std())
labels = frame["cultivar"]


def macro_f1(targets, predictions):
    """Return the mean of the classes' F1 scores."""
    return f1_score(targets, predictions, average="macro")


model = fg.Sequential([fg.Dense(16, activation="relu"), fg.Dense(3)], input_shape=13, seed=0)
trainer = fg.Trainer(model, estimator="feedback", optimizer="adam")
history = trainer.fit(features, labels, epochs=30, batch_size=16, validation=0.3, metrics=[macro_f1])
print("classes:", ", ".join(model.classes))
final = history.final
print(f"validation accuracy {final.validation_accuracy:.3f}, F1 {final.metrics['validation_macro_f1']:.3f}")

# %%
# What the model says of the first wines.

print("predicted:", *np.array(model.classes)[model(features.head(3).to_numpy()).argmax(axis=1)])
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
axes.plot([r.epoch for r in history.records], [r.metrics["validation_macro_f1"] for r in history.records])
axes.set(xlabel="epoch", ylabel="validation F1")
plt.show()
