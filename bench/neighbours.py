"""``python -m fgnumba.bench.neighbours``: another framework in its own process; see ``bench.measure.neighbours``."""

from fgnumba.bench.measure.neighbours import serve

if __name__ == "__main__":
    serve()
