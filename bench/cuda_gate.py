"""``python -m fgnumba.bench.cuda_gate``: check all GPU kernels' machine code; see :mod:`fgnumba.bench.cuda.gate`."""

from fgnumba.bench.cuda.gate import command

if __name__ == "__main__":
    command()
