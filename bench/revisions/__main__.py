"""``python -m fgnumba.bench.revisions``: two revisions in one interleaved run; see ``compare``."""

from fgnumba.bench.revisions.compare import command

if __name__ == "__main__":
    command()
