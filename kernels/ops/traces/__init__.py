"""Real-time recurrent learning: the exact gradients of a diagonal recurrence, from traces that run forward in time."""

from fgnumba.kernels.machine.memory import round_up

PARAMETERS: dict[str, tuple[str, ...]] = {
    "elementwise_lstm": ("recurrent", "bias"),
    "min_gru": ("bias",),
    "linear": ("nu",),
    "complex_linear": ("nu", "theta"),
}
"""The recurrences, and the parameters beside the weight that have traces."""

GATES = {"elementwise_lstm": 2, "min_gru": 2, "linear": 1, "complex_linear": 2}
"""The number of groups of columns of each recurrence's weight."""

PARTS = {"elementwise_lstm": 1, "min_gru": 1, "linear": 1, "complex_linear": 2}
"""The number of parts of the state: 2 if it is complex."""

BLOCK_SYMBOLS, BLOCK_NUMBERS = 16, 32
"""The number of units that a block has: traces of symbols stay in the first-level cache, others in the second."""

WINDOW_SYMBOLS, WINDOW_NUMBERS = 16, 32
"""The number of steps of a window. A longer one passes over the traces less often, and multiplies more factors."""


def trace_shapes(
    recurrence: str, batch: int, units: int, inputs: int, symbols: bool
) -> dict[str, tuple[int, ...]]:
    """Return the shape of the traces of each parameter, by its name.

    A shape is (blocks, B, rows, units of a block). Traces of the weight have a row for each input and gate. Traces of a
    complex recurrence are complex, in rows of real parts and rows of imaginary parts.
    """
    width = BLOCK_SYMBOLS if symbols else BLOCK_NUMBERS
    blocks = round_up(units, BLOCK_NUMBERS) // width
    parts, gates = PARTS[recurrence], GATES[recurrence]
    rows = {name: parts if name in ("nu", "theta") else gates for name in PARAMETERS[recurrence]}
    return {name: (blocks, batch, count, width) for name, count in {"weight": gates * inputs, **rows}.items()}
