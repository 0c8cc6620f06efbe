"""``python -m fgnumba.bench.results``: measure everything; see :mod:`fgnumba.bench.report.results`."""

from fgnumba.bench.report.results import command

if __name__ == "__main__":
    command()
