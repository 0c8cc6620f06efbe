"""``python -m fgnumba.bench.revisions``: time two revisions in turn; see ``compare``."""

from fgnumba.bench.revisions.compare import command

if __name__ == "__main__":
    command()
