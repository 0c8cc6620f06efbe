"""
Train on handwritten digits
===========================

A network of two hidden layers learns some 1,300 small images of digits, with forward passes alone. Each step perturbs
the activations of the hidden layers and measures what the perturbation does to the outputs; a feedback matrix for each
layer learns from that measurement where the error has to be sent.

The history has a record for each pass over the training data. The test data are looked at once, at the end.
"""

import matplotlib.pyplot as plt

import fgnumba as fg

data = fg.datasets.load("digits")
model = fg.Sequential(
    [fg.Flatten(), fg.Dense(64, activation="relu"), fg.Dense(64, activation="relu"), fg.Dense(10)],
    input_shape=data.input_shape,
    seed=0,
)
trainer = fg.Trainer(
    model,
    estimator=fg.ActivityPerturbation(feedback=fg.Feedback(control=0.0)),
    optimizer=fg.Adam(learning_rate=3e-3, decay=2e-3),
    seed=0,
)
history = trainer.fit(data, steps=1500, batch_size=64, validation=0.1)
print(f"test accuracy {history.final.test_accuracy:.3f} after {history.final.step} steps")

# %%
# Above the loss, of which a record of training has the mean over the steps since the record before; below the error on
# the tenth of the training data that is held out. The ring is around the best record.

history.plot()
plt.show()

# %%
# The model is a function of a batch of images. It returns one number, a logit, for each class.

logits = model(data.x_test[:8])
print("predicted", logits.argmax(axis=1))
print("true     ", data.y_test[:8])
