"""
A PyTorch module in, an ONNX file out
=====================================

A network that PyTorch describes comes in, is trained further by forward gradients, and leaves as an ONNX file, which
ONNX Runtime runs. Needed are ``pip install 'fgnumba[torch,onnx]' onnxruntime``.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import torch
from torch import nn

import fgnumba as fg

data = fg.datasets.load("digits")
torch.manual_seed(0)
module = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 4 * 4, 10)
)

# %%
# ``from_torch`` takes the shape that the model will have, with the channels last. It permutes the weight after
# ``Flatten``, and compares both networks on random inputs before it returns.

model = fg.from_torch(module, input_shape=data.input_shape)
print(model.summary())
print(f"accuracy before training {fg.evaluate(model, data.x_test, data.y_test).accuracy:.3f}")

# %%
# No reverse pass from here on: the estimator is learned feedback.

estimator = fg.ActivityPerturbation(feedback=fg.Feedback(control=0.0))
trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.Adam(learning_rate=3e-3, decay=1e-3))
history = trainer.fit(data, steps=600, validation=0.1)
history.plot()
plt.show()
print(f"accuracy after training  {history.final.test_accuracy:.3f}")

# %%
# The file takes images with their channels first, as PyTorch does.

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.onnx"
    fg.to_onnx(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"input": data.x_test.transpose(0, 3, 1, 2)})

expected = model(data.x_test)
apart = np.abs(outputs - expected).max() / np.abs(expected).max()
print(f"ONNX Runtime's outputs differ by {apart:.1e} of the largest")
assert apart < 1e-5
