"""Diagonal recurrences: the factor ∂c_t/∂c_(t-1) and the immediate derivatives of each step, from gates and states.

The state of a unit follows c_t = F(c_(t-1), ...), so that its derivative with respect to anything before is carried
along by one number a step, the *factor* D_t. The factors and the state of a complex recurrence are complex; rows of
complex numbers come twice, first the real parts, then the imaginary ones.
"""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.unit_block import UnitBlock
from fgnumba.kernels.emit.vector import InstructionSet, of_vectors
from fgnumba.kernels.emit.vectors import F32, index, loop


def _elementwise_lstm(block: UnitBlock, gates: Any, state: Any, constants: Any) -> tuple[Any, Any]:
    (z, f), (c,), (wz, wf) = gates, state, constants
    rest = block.subtract(block.same(1.0), f)
    of_z = block.multiply(rest, block.minus_product(z, z, block.same(1.0)))
    of_f = block.multiply(block.subtract(c, z), block.multiply(f, rest))
    factor = block.fma(of_f, wf, block.fma(of_z, wz, f))
    return [factor], [of_z, of_f, block.multiply(of_z, c), block.multiply(of_f, c)]


def _min_gru(block: UnitBlock, gates: Any, state: Any, constants: Any) -> tuple[Any, Any]:
    (candidate, z), (h,) = gates, state
    rest = block.subtract(block.same(1.0), z)
    return [rest], [z, block.multiply(block.subtract(candidate, h), block.multiply(z, rest))]


def _linear(block: UnitBlock, gates: Any, state: Any, constants: Any) -> tuple[Any, Any]:
    (u,), (h,), (factor, gain, factor_slope, gain_slope) = gates, state, constants
    return [factor], [gain, block.fma(factor_slope, h, block.multiply(gain_slope, u))]


def _complex_linear(block: UnitBlock, gates: Any, state: Any, constants: Any) -> tuple[Any, Any]:
    u, h = gates, state
    factor, (gain, minus_gain), slope, gain_slope = (
        constants[:2],
        constants[2:4],
        constants[4:6],
        constants[6],
    )
    of_nu = [
        block.fma(gain_slope, u_part, moved)
        for u_part, moved in zip(u, block.complex_product(slope, h), strict=True)
    ]
    turned = block.complex_product(factor, h)
    of_theta = [block.subtract(block.same(0.0), turned[1]), turned[0]]
    return factor, [gain, minus_gain, *of_nu, *of_theta]


FORMULAS: dict[str, tuple[Callable[..., Any], int, int, int, int]] = {
    "elementwise_lstm": (_elementwise_lstm, 1, 2, 2, 4),
    "min_gru": (_min_gru, 1, 2, 0, 2),
    "linear": (_linear, 1, 1, 4, 2),
    "complex_linear": (_complex_linear, 2, 2, 7, 6),
}
"""The recurrences. Each has a function that returns the factor and the immediate derivatives of a step, the number of
parts of a state (2: it is complex), and the numbers of gates, of constants of a unit, and of immediate derivatives.

- ``elementwise_lstm``: gates z, f; constants w_z, w_f; ∂c/∂ pre-activations of z and f, and each times c_(t-1).
- ``min_gru``: gates h~, z; the derivatives with respect to their pre-activations.
- ``linear``: u; constants λ, γ, ∂λ/∂ν, ∂γ/∂ν; γ, and the derivative with respect to ν.
- ``complex_linear``: Re u, Im u; Re λ, Im λ, γ, -γ, Re ∂λ/∂ν, Im ∂λ/∂ν, ∂γ/∂ν; γ, -γ, the derivatives with respect to
  ν and θ, real part and imaginary part each.
"""


@of_vectors
def recurrence_steps(isa: InstructionSet, width: int, name: str) -> Callable[..., None]:
    """Return a Numba intrinsic that writes the factor, the signal and the immediate derivatives of each step.

    The intrinsic takes ``(count, carried, gates, group, gate_row, first, first_part, states, state_part, state_row,
    signals, signal_part, signal_row, constants, out, out_set)``, all int64:

    - count: number of steps, at least 1; carried: 0 if the factors are to be written as zeros;
    - gates, group, gate_row: address of the first step's gates, elements from one gate to the next, and from one step;
    - first, first_part: address of the state before the first step, and elements to its imaginary part;
    - states, state_part, state_row: the same of the first step's state, and elements to the next step's;
    - signals, signal_part, signal_row: the same of ∂f/∂c;
    - constants: address of the rows of constants;
    - out, out_set: address of the sets of rows that are written, and elements from one set to the next. The sets are
      the factors (one, or two if complex), the signals, which begin at the second row, and the immediate derivatives.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    width : int
        The number of units of the block.
    name : str
        The recurrence, a key of `FORMULAS`.
    """
    formula, parts, gate_count, constant_count, _ = FORMULAS[name]

    @intrinsic
    def steps(  # type: ignore[no-untyped-def]
        typingctx,
        count,
        carried,
        gates,
        group,
        gate_row,
        first,
        first_part,
        states,
        state_part,
        state_row,
        signals,
        signal_part,
        signal_row,
        constants,
        out,
        out_set,
    ):
        signature = types.void(*(types.int64,) * 16)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            count, carried, gates, group, gate_row, first, first_part = args[:7]
            states, state_part, state_row, signals, signal_part, signal_row, constants, out, out_set = args[
                7:
            ]
            gates, first, states, signals, constants, out = (
                builder.inttoptr(p, F32.as_pointer()) for p in (gates, first, states, signals, constants, out)
            )
            block = UnitBlock(isa, builder, width, 2 if parts == 1 else 1)
            is_carried = builder.icmp_signed("!=", carried, index(0))

            def moved(base: Any, times: int, step: Any) -> Any:
                return builder.gep(base, [builder.mul(index(times), step)])

            with block.columns() as (number, _, _):
                block.enter(number)
                fixed = [block.load(constants, index(k)) for k in range(constant_count)]
                before = [block.load(moved(first, part, first_part), index(0)) for part in range(parts)]
                carry = [value for part in before for value in part]
                with loop(builder, "step", count, carry) as (t, carry, following):
                    n = block.count
                    state = [carry[part * n : (part + 1) * n] for part in range(parts)]
                    opened = [block.load(moved(gates, g, group), t, gate_row) for g in range(gate_count)]
                    factors, immediates = formula(block, opened, state, fixed)
                    zero = block.same(0.0)
                    for part, factor in enumerate(factors):
                        kept = [
                            builder.select(is_carried, x, none) for x, none in zip(factor, zero, strict=True)
                        ]
                        block.store(kept, moved(out, part, out_set), t)
                    for part in range(parts):
                        signal = block.load(moved(signals, part, signal_part), t, signal_row)
                        block.store(signal, moved(out, parts + part, out_set), builder.add(t, index(1)))
                    for i, immediate in enumerate(immediates):
                        block.store(immediate, moved(out, 2 * parts + i, out_set), t)
                    for part in range(parts):
                        following += block.load(moved(states, part, state_part), t, state_row)
            return context.get_dummy_value()

        return signature, codegen

    return steps
