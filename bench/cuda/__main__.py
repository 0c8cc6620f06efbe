"""``python -m fgnumba.bench.cuda``: everything there is to measure on a GPU; see :mod:`fgnumba.bench.cuda.command`."""

from fgnumba.bench.cuda.command import command

if __name__ == "__main__":
    command()
