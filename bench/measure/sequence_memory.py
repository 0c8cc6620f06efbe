"""Memory against the length of a sequence: forward mode, reverse mode through time, and with checkpoints of states.

Each measurement has a process of its own, and one stream (batch size 1) of the same network: an element-wise LSTM on
symbols and a linear readout. Counted is the peak of the resident memory above what the process had after it had
compiled everything on a short sequence.
"""

import subprocess
import sys
from typing import Any

import numpy as np

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.model.jvp import checked_targets

MODES = ("forward", "reverse", "checkpoints")
"""Real-time recurrent learning in windows of `WINDOW` positions; reverse mode of the whole sequence; and reverse mode
with the states of about √L positions as checkpoints."""

WINDOW, SYMBOLS, UNITS = 64, 65, 128
LOSS = fg.SoftmaxCrossEntropy()


def network(length: int) -> fg.Sequential:
    """Return the network for sequences of `length` positions."""
    layers = [fg.ElementwiseLSTM(UNITS, symbols=SYMBOLS), fg.Dense(SYMBOLS)]
    return fg.Sequential(layers, (length,), device="cpu")


def go_through(mode: str, length: int) -> float:
    """Take the gradient of a sequence of `length` positions, and return the loss: the last window's, or the mean."""
    rng = np.random.default_rng(0)
    if mode == "forward":
        trainer = fg.Trainer(
            network(WINDOW), estimator=fg.RealTimeRecurrentLearning(), optimizer=fg.Adam(1e-6)
        )
        for _ in range(max(1, length // WINDOW)):
            text = rng.integers(0, SYMBOLS, (1, WINDOW + 1))
            result = trainer.step(text[:, :-1], text[:, 1:])
        return float(result.loss)
    model = network(length)
    text = rng.integers(0, SYMBOLS, (1, length + 1))
    x, y = text[:, :-1].astype(np.float32), text[:, 1:]
    plan: Any = reverse.ReversePlan if mode == "reverse" else reverse.ThroughTime
    return float(plan(model, 1, LOSS).run(x, checked_targets(model, LOSS, x, y)))


def resident(mode: str, length: int) -> int:
    """Return the bytes by which a process of its own grows while it goes through a sequence; Linux only.

    Parameters
    ----------
    mode : str
        One of `MODES`.
    length : int
        Number of positions L.
    """
    arguments = [sys.executable, "-m", "fgnumba.bench.measure.sequence_memory", mode, str(length)]
    return int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)


def _kilobytes(field: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))


def main() -> None:
    """Print the growth of this process, in bytes."""
    mode, length = sys.argv[1], int(sys.argv[2])
    go_through(mode, 2 * WINDOW)
    before = _kilobytes("VmRSS:")
    # The peak begins again at what is resident now.
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    go_through(mode, length)
    print(1024 * max(0, _kilobytes("VmHWM:") - before))


if __name__ == "__main__":
    main()
