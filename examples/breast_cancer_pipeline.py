"""
A classifier in a scikit-learn pipeline
=======================================

``ForwardGradientClassifier`` is an estimator for scikit-learn: it takes labels that are text, works in pipelines, cross
validation and searches, and predicts probabilities. It is trained with forward passes alone. This script classifies
tumours of the Wisconsin breast cancer data, and chooses the number of hidden units by a search.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fgnumba.sklearn import ForwardGradientClassifier

data = load_breast_cancer()
X, y = data.data, np.array(["malignant", "benign"])[data.target]

# %%
# Five-fold cross validation. Features are standardised inside the pipeline, by the training folds alone.

classifier = ForwardGradientClassifier((16,), max_iter=40, random_state=0)
model = make_pipeline(StandardScaler(), classifier)
folds = StratifiedKFold(5, shuffle=True, random_state=0)
scores = cross_val_score(model, X, y, cv=folds)
print(f"accuracy {scores.mean():.3f}, of each fold {', '.join(f'{score:.3f}' for score in scores)}")

# %%
# A search over its parameters. ``n_jobs=2`` would train two models at a time.

search = GridSearchCV(model, {"forwardgradientclassifier__hidden_layer_sizes": [(), (16,)]}, cv=3)
search.fit(X, y)
print("best:", search.best_params_)

# %%
# The loss of each pass over the data.

best = search.best_estimator_[-1]
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
axes.semilogy(range(1, len(best.loss_curve_) + 1), best.loss_curve_)
axes.set(xlabel="pass over the data", ylabel="training loss")
plt.show()
probabilities = search.predict_proba(X[:1])[0]
print(
    "first example:", ", ".join(f"{c} {p:.3f}" for c, p in zip(search.classes_, probabilities, strict=True))
)
