"""``python -m fgnumba.bench.cuda_gate``: machine code of all GPU kernels; see :mod:`fgnumba.bench.cuda.gate`."""

from fgnumba.bench.cuda.gate import command

if __name__ == "__main__":
    command()
