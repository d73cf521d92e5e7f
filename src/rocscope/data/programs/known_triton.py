"""The Triton kernels of known_kernels.py: what each moves and computes is a matter of arithmetic."""

# ruff: noqa: ANN001, ANN201, PLR0917  # Triton reads annotations of kernels, whose operands are many

import triton
import triton.language as tl


@triton.jit
def rocscope_known_copy(source, target, block: tl.constexpr):
    """Copy: each byte read once and written once."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    tl.store(target + at, tl.load(source + at))


@triton.jit
def rocscope_known_fma(source, target, steps, block: tl.constexpr):
    """Two dependent chains of fused multiply-adds on each element, from registers."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    a = tl.load(source + at)
    b = a * 0.5
    for _ in range(steps):
        a = b * -0.75 + a  # a rotation: neither grows nor dies away
        b = a * 0.75 + b
    tl.store(target + at, a + b)


@triton.jit
def rocscope_known_load(source, target, steps, block: tl.constexpr):
    """The same, for as long as the energy is watched: counted by itself."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    a = tl.load(source + at)
    b = a * 0.5
    for _ in range(steps):
        a = b * -0.75 + a  # a rotation: neither grows nor dies away
        b = a * 0.75 + b
    tl.store(target + at, a + b)


@triton.jit
def rocscope_known_matrix(
    left,
    right,
    out,
    size,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
):
    """Multiply two square matrices of 16 bit on the matrix unit: a workgroup a tile."""
    row = tl.program_id(0) * block_m + tl.arange(0, block_m)
    column = tl.program_id(1) * block_n + tl.arange(0, block_n)
    k = tl.arange(0, block_k)
    total = tl.zeros([block_m, block_n], tl.float32)
    for first in range(0, size, block_k):
        a = tl.load(left + row[:, None] * size + (first + k)[None, :])
        b = tl.load(right + (first + k)[:, None] * size + column[None, :])
        total += tl.dot(a, b)
    tl.store(out + row[:, None] * size + column[None, :], total.to(tl.float16))


@triton.jit
def rocscope_known_w4a16(
    x,
    words,
    scales,
    zeros,
    out,
    length,
    width,
    rows: tl.constexpr,
    group: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
):
    """Multiply rows by weights of 4 bit: nibble i of word w is row 8 w + i, less zero, times scale."""
    row = tl.arange(0, rows)
    column = tl.program_id(0) * block_n + tl.arange(0, block_n)
    total = tl.zeros([rows, block_n], tl.float32)
    for first in range(0, length, block_k):
        k = first + tl.arange(0, block_k)
        packed = tl.load(words + (k // 8)[:, None] * width + column[None, :])
        scale = tl.load(scales + (first // group) * width + column)
        zero = tl.load(zeros + (first // group) * width + column)
        nibbles = (packed >> ((k % 8) * 4)[:, None]) & 15
        weights = (nibbles.to(tl.float16) - zero[None, :]) * scale[None, :]
        inputs = tl.load(x + row[:, None] * length + k[None, :])
        total += tl.dot(inputs, weights)
    tl.store(out + row[:, None] * width + column[None, :], total.to(tl.float16))


@triton.jit
def rocscope_known_attention(
    query,
    keys,
    values,
    out,
    context,
    scale,
    width: tl.constexpr,
    tokens: tl.constexpr,
):
    """Attend with one token to a context: a workgroup a head, keys and values read once."""
    head = tl.program_id(0).to(tl.int64)
    dim = tl.arange(0, width)
    q = tl.load(query + head * width + dim).to(tl.float32) * scale
    best = -1.0e30
    weight = 0.0
    result = tl.zeros([width], tl.float32)
    for first in range(0, context, tokens):
        at = (head * context + first + tl.arange(0, tokens)[:, None]) * width + dim[None, :]
        scores = tl.sum(tl.load(keys + at).to(tl.float32) * q[None, :], axis=1)
        most = tl.maximum(best, tl.max(scores, axis=0))
        kept = tl.exp(best - most)
        shares = tl.exp(scores - most)
        weight = weight * kept + tl.sum(shares, axis=0)
        result = result * kept + tl.sum(tl.load(values + at).to(tl.float32) * shares[:, None], axis=0)
        best = most
    tl.store(out + head * width + dim, (result / weight).to(tl.float16))


@triton.jit
def rocscope_known_rmsnorm(x, weight, out, width: tl.constexpr):
    """Norm a row a workgroup."""
    at = tl.arange(0, width)
    row = tl.program_id(0) * width
    values = tl.load(x + row + at).to(tl.float32)
    inverse = 1.0 / tl.sqrt(tl.sum(values * values, axis=0) / width + 1.0e-6)
    result = values * inverse * tl.load(weight + at).to(tl.float32)
    tl.store(out + row + at, result.to(tl.float16))


@triton.jit
def rocscope_known_empty(target):
    """Next to nothing: what it takes is the launch."""
    tl.store(target, 1)
