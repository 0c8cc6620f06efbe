"""
Train on a PyTorch DataLoader
=============================

``Trainer.fit`` takes any iterable of batches (x, y), such as a list, a generator or PyTorch's DataLoader, which is
passed over again in each epoch. Channels come last here and first in PyTorch, so that images are turned. This script
needs ``pip install 'fgnumba[torch]'``.
"""

import matplotlib.pyplot as plt
import torch
from torch.utils.data import DataLoader, TensorDataset

import fgnumba as fg

digits = fg.datasets.load("digits")
images = torch.tensor(digits.x_train).permute(0, 3, 1, 2)  # (n, 1, 8, 8), as PyTorch has them
dataset = TensorDataset(images, torch.tensor(digits.y_train))


def channels_last(examples):
    """Return a batch whose channels come last."""
    x, y = zip(*examples, strict=True)
    return torch.stack(x).permute(0, 2, 3, 1), torch.stack(y)


generator = torch.Generator().manual_seed(0)
loader = DataLoader(dataset, batch_size=64, shuffle=True, collate_fn=channels_last, generator=generator)

# %%
# Validation data are arrays. No fraction of a loader can be held out, and a run on one cannot be resumed, since its
# batches cannot be had again.

model = fg.Sequential(
    [fg.Flatten(), fg.Dense(64, activation="relu"), fg.Dense(10)], input_shape=(8, 8, 1), seed=0
)
trainer = fg.Trainer(model, estimator="feedback", optimizer="adam")
history = trainer.fit(loader, epochs=15, validation=(digits.x_test, digits.y_test))
print(f"accuracy {history.final.validation_accuracy:.3f} after {history.final.step} steps")

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
axes.semilogy([r.epoch for r in history.records], [1 - r.validation_accuracy for r in history.records])
axes.set(xlabel="epoch", ylabel="error")
plt.show()
