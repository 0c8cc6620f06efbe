"""What an error of attention's mean values tells queries, keys and values: in closed form, or estimated from noise."""

from fgnumba.kernels.layout.heads import Heads
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import leading
from fgnumba.layers.attention import KeptAttention, SelfAttention


def bind_told(layer: SelfAttention, kept: KeptAttention, delta: Images, out: Images) -> list[Operation]:
    """Return the operations that tell queries, keys and values what the error of attention's mean values means.

    This is the slope of one operation in closed form, as xᵀ δ is that of a dense layer.

    Parameters
    ----------
    layer : SelfAttention
        The layer.
    kept : KeptAttention
        What a forward pass kept.
    delta : Images
        The error of the mean values, sequences (L, H d) by position.
    out : Images
        Written: the errors of queries, keys and values, side by side, sequences (L, (H + 2 G) d) by position.
    """
    site = kept.site
    channels = site.inputs[0].shape[2]
    (q, k, v), (dq, dk, dv) = layer.heads_of(kept.projected, channels), layer.heads_of(out, channels)
    operations = site.device.kernels.attention.bind_gradients(
        site.isa,
        site.threads,
        batch=site.batch,
        q=q,
        k=k,
        v=v,
        y=Heads.of(kept.mean, layer.heads),
        signal=Heads.of(delta, layer.heads),
        log_sum_exp=kept.log_sum_exp,
        dq=dq,
        dk=dk,
        dv=dv,
        **layer.scores(site),
    )
    return [*operations, *layer.turned(site, out, inverse=True)]


def bind_told_by_noise(
    layer: SelfAttention, kept: KeptAttention, delta: Images, out: Images, number: int
) -> list[Operation]:
    """Return the operations that estimate from noise what :func:`bind_told` computes in closed form.

    Random signs ε are the tangents of all queries, keys and values of a second pass. The derivative of a position's
    loss along them is d_t = δ_t · do_t in each head, with the tangent do of its mean values. A query's error is
    d_t ε_t; that of a key or a value at position s is ε_s times the sum of the d_t of all positions t that may see
    it. The expectation is the closed form; each estimate carries the noise of all the other signs.

    Parameters
    ----------
    layer, kept, delta, out
        As for :func:`bind_told`.
    number : int
        The number of the noise, by which it differs from other noise of the step.
    """
    site, kernels = kept.site, kept.site.device.kernels
    length, _, columns = kept.projected.shape
    rows = site.batch * length
    dual = site.device.zeros((2, rows, leading(columns)))
    moved = Images.of_batch(dual, (length, columns), True, by_position=True)
    signs = Images.of_batch(dual[1:], (length, columns), by_position=True)
    mean = Images.of_batch(
        site.device.zeros((2, rows, leading(delta.shape[2]))), delta.shape[::2], True, by_position=True
    )
    q, k, v = layer.heads_of(moved, site.inputs[0].shape[2])
    return [
        kernels.elementwise.bind(
            batch=site.batch, images_a_part=site.batch, count=0, x=kept.projected, y=moved
        ),
        kernels.signs.bind(
            site.isa,
            site.threads,
            rows=rows,
            columns=columns,
            out=dual[1],
            stream=site.perturbation.stream,
            number=number,
        ),
        kernels.attention.bind(
            site.isa,
            site.threads,
            batch=site.batch,
            count=1,
            q=q,
            k=k,
            v=v,
            y=Heads.of(mean, layer.heads),
            **layer.scores(site),
        ),
        kernels.attention_noise.bind_estimate(
            site.threads,
            batch=site.batch,
            signal=delta,
            tangent=Images.of_batch(mean.memory[1:], delta.shape[::2], by_position=True),
            signs=signs,
            out=out,
            heads=layer.heads,
            key_heads=layer.groups,
            causal=layer.causal,
        ),
        *layer.turned(site, out, inverse=True),
    ]
