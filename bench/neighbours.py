"""``python -m fgnumba.bench.neighbours``: a peer in a process of its own; see ``bench.measure.neighbours``."""

from fgnumba.bench.measure.neighbours import serve

if __name__ == "__main__":
    serve()
