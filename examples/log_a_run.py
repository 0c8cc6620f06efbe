"""
Log a run to CSV and TensorBoard
================================

Loggers are callbacks. They write the settings of a run and the figures of its records where other tools read them. This
example finds a learning rate, trains with it, keeps the best parameters in a file, and draws the curves from the CSV
file. The TensorBoard logger needs ``pip install 'fgnumba[tensorboard]'`` and is left out where that is missing.
"""

import csv
import tempfile
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt

import fgnumba as fg

data = fg.datasets.load("digits")
model = fg.Sequential(
    [fg.Flatten(), fg.Dense(64, activation="relu"), fg.Dense(10)], input_shape=data.input_shape, seed=0
)
trainer = fg.Trainer(model, estimator="feedback", optimizer="adam")
finder = fg.find_learning_rate(trainer, data, lowest=1e-5)
print(f"suggested learning rate {finder.suggestion:.1e}")

# %%
# The loggers, and a file with the model of the best record.

trainer = fg.Trainer(model, estimator="feedback", optimizer=fg.Adam(finder.suggestion))
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    callbacks = [fg.callbacks.CSVLogger(folder / "log.csv"), fg.callbacks.BestCheckpoint(folder / "best")]
    if find_spec("tensorboardX") is not None:
        callbacks.append(fg.callbacks.TensorBoard(folder / "tensorboard"))
    history = trainer.fit(data, epochs=20, validation=0.1, callbacks=callbacks)
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    print("files:", ", ".join(sorted(path.name for path in folder.iterdir())))
print(f"best validation loss {callbacks[1].best:.3f} at step {callbacks[1].best_step}")
print(f"test accuracy {history.final.test_accuracy:.3f}")

# %%
# The range test beside the run's losses.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.semilogx(finder.rates, finder.smoothed)
left.axvline(finder.suggestion, linestyle="--", color="gray")
left.set(xlabel="learning rate", ylabel="smoothed loss")
for column in ("loss", "validation_loss"):
    right.plot([int(row["step"]) for row in rows], [float(row[column]) for row in rows], label=column)
right.set(xlabel="step", ylabel="loss")
right.legend()
plt.show()
