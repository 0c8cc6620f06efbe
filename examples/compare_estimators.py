"""
Compare estimators
==================

The same network learns the same data with five estimates of the gradient, at the same number of steps. One of them is
exact, by reverse mode, and shows what is possible. The noise of the others differs by orders of magnitude, so that an
estimator needs a learning rate of its own.

``fgtrain compare`` does this with learning rates from a search, at equal steps, equal time or equal work.
"""

import matplotlib.pyplot as plt

import fgnumba as fg
from fgnumba.bench.reverse import ReverseMode

data = fg.datasets.load("digits")
feedback = fg.Feedback(control=0.0)
contenders = {
    "reverse-mode": (ReverseMode(), fg.Adam(3e-3)),
    "feedback": (fg.ActivityPerturbation(feedback=feedback), fg.Adam(3e-3)),
    "local": (fg.ActivityPerturbation(local=fg.LocalLosses()), fg.Adam(3e-3)),
    "activity": (fg.ActivityPerturbation(), fg.Adam(3e-3)),
    "weight-perturbation": (fg.WeightPerturbation("rank1", directions=16), fg.SGD(2e-2)),
}

# %%
# Records are taken with every pass over the training data. A fifth of the data judges, and does not train.

figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
for name, (estimator, optimizer) in contenders.items():
    layers = [fg.Flatten(), fg.Dense(64, "relu"), fg.Dense(64, "relu"), fg.Dense(10)]
    model = fg.Sequential(layers, input_shape=data.input_shape, seed=0)
    trainer = fg.Trainer(model, estimator=estimator, optimizer=optimizer)
    history = trainer.fit(data, steps=600, validation=0.2)
    steps = [record.step for record in history.records]
    accuracies = [record.validation_accuracy for record in history.records]
    axes.plot(steps, accuracies, label=name)
    print(f"{name:24}  {history.final.validation_accuracy:.3f}")
axes.set(xlabel="step", ylabel="accuracy on the held-out fifth", ylim=(0, 1))
axes.legend()
plt.show()
