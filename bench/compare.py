"""``python -m fgnumba.bench.compare``: time two revisions in turn; see :mod:`fgnumba.bench.revisions.compare`."""

from fgnumba.bench.revisions.compare import command

if __name__ == "__main__":
    command()
