"""``python -m fgnumba.bench.cuda``: measure training on this machine's GPU; see :mod:`fgnumba.bench.cuda.command`."""

from fgnumba.bench.cuda.command import command

if __name__ == "__main__":
    command()
