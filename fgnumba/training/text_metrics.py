"""Metrics of texts: nats and bits per character, and perplexity."""

import math

NATS, BITS, PERPLEXITY = "nats_per_character", "bits_per_character", "perplexity"
TEXT_METRICS = (NATS, BITS, PERPLEXITY)
"""What is measured of each text, beside the loss and the accuracy."""


def text_metrics(loss: float, symbols: int, characters: int) -> dict[str, float]:
    """Return the metrics of a text by their names.

        nats per character = f · symbols / characters,  bits per character = nats / ln 2,  perplexity = exp(f)

    Where the symbols are characters, nats per character are the loss itself.

    Parameters
    ----------
    loss : float
        The mean loss f of a symbol: the negative logarithm of its probability.
    symbols : int
        The number of symbols that were predicted.
    characters : int
        The number of characters that they make.
    """
    # A quotient of equal numbers is exactly 1, so that the loss of characters is not rounded.
    nats = loss * (symbols / characters) if characters else math.nan
    # The perplexity of a model that has diverged is beyond float64.
    perplexity = math.exp(loss) if loss < 700 else math.inf if loss == loss else math.nan
    return {NATS: nats, BITS: nats / math.log(2), PERPLEXITY: perplexity}
