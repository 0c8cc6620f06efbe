"""``python -m fgnumba.bench.compare``: two revisions in one run; see :mod:`fgnumba.bench.revisions.compare`."""

from fgnumba.bench.revisions.compare import command

if __name__ == "__main__":
    command()
