"""Random numbers from a counter: element i depends on (seed, stream, i) and on nothing else.

Philox4x32-10 turns the counter (number, stream) and the key seed into four words of 32 bits.
Elements that need one word each share a counter in fours: element i takes word i mod 4 of counter
⌊i/4⌋. Elements that need 64 bits share it in pairs: words 2·(i mod 2) (the high half) and
2·(i mod 2) + 1 of counter ⌊i/2⌋.
"""

from __future__ import annotations

import math

_LOW = 0xFFFFFFFF


def philox(counter, stream, seed):
    """Ten rounds of multiply, exchange, xor. Source: Salmon et al. 2011 (Random123)."""
    c = [counter & _LOW, counter >> 32, stream & _LOW, stream >> 32]
    k = [seed & _LOW, seed >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & _LOW, (p0 >> 32) ^ c[3] ^ k[1], p0 & _LOW]
        k = [(k[0] + 0x9E3779B9) & _LOW, (k[1] + 0xBB67AE85) & _LOW]
    return tuple(c)


def _word32(i, seed, stream):
    return philox(i // 4, stream, seed)[i % 4]


def _word64(i, seed, stream):
    words = philox(i // 2, stream, seed)
    return (words[2 * (i % 2)] << 32) | words[2 * (i % 2) + 1]


def uniform(out, low, high, seed, stream):
    """out[i] = low + (high − low)·u, u = k/2²⁴ (float32) or k/2⁵³ (float64), k the top bits.

    Rounded to out's dtype after the product and after the sum.
    """
    number = out.dtype.type
    scale, shift = number(high - low), number(low)
    for i in range(out.size):
        if out.itemsize == 4:
            u = number((_word32(i, seed, stream) >> 8) * 2.0**-24)
        else:
            u = number((_word64(i, seed, stream) >> 11) * 2.0**-53)
        out[i] = u * scale + shift


def normal(out, mean, std, seed, stream):
    """Box–Muller: √(−2 ln u)·cos(2πv) for even i, √(−2 ln u)·sin(2πv) for odd i; then · std + mean.

    u in (0, 1] and v in [0, 1) come from the two words of the pair that i belongs to; u is rounded
    to out's dtype, which bounds |out| by √(2·33 ln 2) = 6.8 (float32) and √(2·54 ln 2) = 8.7.
    """
    number = out.dtype.type
    for i in range(out.size):
        even = i - i % 2
        if out.itemsize == 4:
            u = (number(_word32(even, seed, stream)) + number(0.5)) * number(2.0**-32)
            v = (_word32(even + 1, seed, stream) >> 8) * 2.0**-24
        else:
            u = (number(_word64(even, seed, stream) >> 11) + number(0.5)) * number(2.0**-53)
            v = (_word64(even + 1, seed, stream) >> 11) * 2.0**-53
        wave = math.sin if i % 2 else math.cos
        out[i] = mean + std * math.sqrt(-2 * math.log(u)) * wave(2 * math.pi * v)


def randint(out, low, high, seed, stream):
    """out[i] = low + (64 random bits mod (high − low))"""
    for i in range(out.size):
        out[i] = low + _word64(i, seed, stream) % (high - low)


def permutation(out, seed, stream):
    """Fisher–Yates: for i = n−1, …, 1 exchange out[i] with out[j], j = ⌊(i + 1)·r/2⁶⁴⌋."""
    for i in range(out.size):
        out[i] = i
    for i in range(out.size - 1, 0, -1):
        j = (i + 1) * _word64(i, seed, stream) >> 64
        out[i], out[j] = out[j], out[i]


def dropout_forward(out, mask, input, p, seed, stream):
    """mask[i] = word ≥ p·2³²; out[i] = input[i]/(1 − p) where mask[i], else 0."""
    scale = input.dtype.type(1 / (1 - p) if p < 1 else 0)
    for i in range(out.size):
        mask[i] = _word32(i, seed, stream) >= round(p * 2**32)
        out[i] = input[i] * scale if mask[i] else 0


def dropout_backward_input(grad_input, grad_output, mask, p):
    """grad_input[i] = grad_output[i]/(1 − p) where mask[i], else 0."""
    scale = grad_output.dtype.type(1 / (1 - p) if p < 1 else 0)
    for i in range(grad_input.size):
        grad_input[i] = grad_output[i] * scale if mask[i] else 0
