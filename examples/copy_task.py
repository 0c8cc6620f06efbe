"""
Remember over five hundred positions
====================================

Ten symbols go in, then five hundred blanks and a mark; after it the ten symbols shall come out (Arjovsky et al., arXiv
1511.06464). A linear recurrent unit learns it forward in time: no past is kept, and no pass runs backwards.
"""

import math
import os

import numpy as np

import fgnumba as fg

SYMBOLS, COPIED = 8, 10
DELAY, STEPS = (20, 30) if "FGNUMBA_SHORT" in os.environ else (500, 2000)
LENGTH = DELAY + 2 * COPIED


def sequences(generator, count):
    """Return fresh sequences, and what shall come out: blanks are 8, and the mark is 9."""
    symbols = generator.integers(0, SYMBOLS, (count, COPIED))
    x, y = (np.full((count, LENGTH), SYMBOLS) for _ in range(2))
    x[:, :COPIED], x[:, DELAY + COPIED - 1], y[:, -COPIED:] = symbols, SYMBOLS + 1, symbols
    return x, y


# %%
# The factors λ begin close to the unit circle, so that a state fades over thousands of positions, and with all phases,
# so that it tells the ten places apart.

unit = fg.LinearRecurrentUnit(128, symbols=SYMBOLS + 2, radius=(0.998, 0.9999), phase=2 * math.pi)
model = fg.Sequential([unit, fg.Dense(SYMBOLS + 2)], input_shape=(LENGTH,), device="cpu")
trainer = fg.Trainer(
    model,
    estimator=fg.RealTimeRecurrentLearning(),
    optimizer=fg.Adam(fg.schedules.Cosine(2e-2, STEPS, final=4e-4)),
    carry_states=False,
)
generator = np.random.default_rng(0)
for step in range(STEPS):
    result = trainer.step(*sequences(generator, 16))
    if step % (STEPS // 6) == 0:
        print(f"step {step:4}: loss {result.loss:.5f}")

# %%
# A sequence counts as right if all of its outputs are.

right = 0
for _ in range(10):
    x, y = sequences(generator, 100)
    right += int((model(x).argmax(axis=-1) == y).all(axis=1).sum())
print(f"{right} of 1,000 fresh sequences are copied without a fault")
