"""``python -m fgnumba.bench.precision``: measure every precision here; see :mod:`fgnumba.bench.precision.command`."""

from fgnumba.bench.precision.command import command

if __name__ == "__main__":
    command()
