"""
A schedule of the learning rate, and early stopping
===================================================

A schedule is a function from the number of a step to its learning rate. Early stopping ends a run whose accuracy on
held-out examples gets no better, and can give the model back the parameters of its best record.
"""

import matplotlib.pyplot as plt

import fgnumba as fg

data = fg.datasets.load("digits")
model = fg.Sequential(
    [fg.Flatten(), fg.Dense(64, activation="relu"), fg.Dense(10)], input_shape=data.input_shape, seed=0
)

# %%
# The rate rises over the first 50 steps, and falls along half a cosine over 2,000.

schedule = fg.schedules.Warmup(fg.schedules.Cosine(5e-3, steps=2000), steps=50)
trainer = fg.Trainer(
    model,
    estimator=fg.ActivityPerturbation(feedback=fg.Feedback(control=0.0)),
    optimizer=fg.Adam(learning_rate=schedule),
)
stopping = fg.callbacks.EarlyStopping(patience=10, restore_best=True)
history = trainer.fit(data, steps=2000, validation=0.1, callbacks=[stopping])
print(f"ended by {history.ended_by} at step {history.final.step}")
print(f"the best record was at step {history.restored_step}; the model has its parameters")
print(f"test accuracy {history.final.test_accuracy:.3f}")

# %%
# The rate and the accuracy that decided.

steps = [record.step for record in history.records]
figure, (above, below) = plt.subplots(2, sharex=True, figsize=(6, 4.5), layout="constrained")
above.plot(steps, [record.learning_rate for record in history.records])
above.set(ylabel="learning rate")
below.plot(steps, [record.validation_accuracy for record in history.records])
below.axvline(stopping.best_step, linestyle="--", color="gray")
below.set(xlabel="step", ylabel="validation accuracy", ylim=(0.8, 1.0))
plt.show()
