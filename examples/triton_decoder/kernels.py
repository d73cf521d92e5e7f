"""The decoder's Triton kernels.

Weights are packed as GPTQ packs them: ``words`` [K / 8, N] int32, of which nibble i of word w is row
8 * w + i; ``scales`` and ``zeros`` [K / group, N] in 16 bit; weight = (nibble - zero) * scale.
"""

# ruff: noqa: N803, N806, PLR0917  # constants of a kernel are written in capitals, its operands are many

import triton
import triton.language as tl


@triton.jit
def gptq_w4a16_gemv_strided_kernel(
    x, words, scales, zeros, out, K, N, GROUP: tl.constexpr, WORDS: tl.constexpr
):
    """Multiply one row, a workgroup a column: neighbouring threads read words that lie N words apart."""
    column = tl.program_id(0)
    nibble = tl.arange(0, 8)
    total = tl.zeros([WORDS], tl.float32)
    for first in range(0, K // 8, WORDS):
        row = first + tl.arange(0, WORDS)
        inside = row < K // 8
        packed = tl.load(words + row * N + column, mask=inside, other=0)
        group = row // (GROUP // 8)
        scale = tl.load(scales + group * N + column, mask=inside, other=0.0).to(tl.float32)
        zero = tl.load(zeros + group * N + column, mask=inside, other=0.0).to(tl.float32)
        weights = ((packed[:, None] >> (nibble[None, :] * 4)) & 15).to(tl.float32)
        inputs = tl.load(x + row[:, None] * 8 + nibble[None, :], mask=inside[:, None], other=0.0)
        total += scale * tl.sum((weights - zero[:, None]) * inputs.to(tl.float32), axis=1)
    tl.store(out + column, tl.sum(total, axis=0))


@triton.jit
def gptq_w4a16_gemv_kernel(
    x,
    words,
    scales,
    zeros,
    partial,
    arrived,
    out,
    N,
    groups_each,
    GROUP: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Multiply one row, a workgroup 256 columns and some groups of K: neighbours read neighbouring words.

    Workgroups that share columns add to ``partial`` in 32 bit; the last of them to arrive writes the output
    and leaves ``partial`` and ``arrived`` zero, as it found them.
    """
    ROWS: tl.constexpr = GROUP // 8
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for each in range(groups_each):
        group = tl.program_id(1) * groups_each + each
        row = group * ROWS + tl.arange(0, ROWS)
        packed = tl.load(words + row[:, None] * N + column[None, :])
        scale = tl.load(scales + group * N + column).to(tl.float32)
        zero = tl.load(zeros + group * N + column).to(tl.float32)
        sums = tl.zeros([ROWS, COLUMNS], tl.float32)
        of_inputs = tl.zeros([ROWS], tl.float32)
        for nibble in tl.static_range(8):
            inputs = tl.load(x + row * 8 + nibble).to(tl.float32)
            of_inputs += inputs
            # bits set into the mantissa of 2 ** 23 need no conversion and, up to bit 20, no shift: the
            # nibble then counts 16 ** place times, which its input makes good, without rounding
            if nibble < 5:
                bits = packed & (15 << (4 * nibble))
                inputs = inputs * (1.0 / (1 << (4 * nibble)))
            else:
                bits = (packed >> 20) & (15 << (4 * (nibble - 5)))
                inputs = inputs * (1.0 / (1 << (4 * (nibble - 5))))
            weights = (bits | 0x4B000000).to(tl.float32, bitcast=True) - 8388608.0
            sums += weights * inputs[:, None]
        total += scale[None, :] * (sums - zero[None, :] * of_inputs[:, None])
    tl.atomic_add(partial + column, tl.sum(total, axis=0), sem="relaxed")
    tl.debug_barrier()
    before = tl.atomic_add(arrived + tl.program_id(0), 1, sem="acq_rel")
    if before == tl.num_programs(1) - 1:
        result = tl.load(partial + column, cache_modifier=".cg")
        tl.store(out + column, result)
        tl.debug_barrier()  # all have read before any clears
        tl.store(partial + column, tl.zeros([COLUMNS], tl.float32))
        tl.store(arrived + tl.program_id(0), 0)


@triton.jit
def gptq_w4a16_gemm_kernel(
    x,
    words,
    scales,
    zeros,
    out,
    M,
    N,
    K,
    GROUP: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Multiply several rows on the matrix unit, a workgroup BLOCK_N columns of BLOCK_M rows."""
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = row[:, None] < M
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for first in range(0, K, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        packed = tl.load(words + (k // 8)[:, None] * N + column[None, :])
        scale = tl.load(scales + (first // GROUP) * N + column)
        zero = tl.load(zeros + (first // GROUP) * N + column)
        nibbles = (packed >> ((k % 8) * 4)[:, None]) & 15
        weights = (nibbles.to(tl.float16) - zero[None, :]) * scale[None, :]
        inputs = tl.load(x + row[:, None] * K + k[None, :], mask=inside, other=0.0)
        total = tl.dot(inputs, weights, total)
    tl.store(out + row[:, None] * N + column[None, :], total, mask=inside)


@triton.jit
def rms_norm_kernel(x, weight, out, length, epsilon, BLOCK: tl.constexpr):
    """Norm a row a workgroup."""
    at = tl.arange(0, BLOCK)
    inside = at < length
    row = tl.program_id(0) * length
    values = tl.load(x + row + at, mask=inside, other=0.0).to(tl.float32)
    inverse = tl.rsqrt(tl.sum(values * values, axis=0) / length + epsilon)
    weights = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row + at, values * inverse * weights, mask=inside)


@triton.jit
def fused_add_rms_norm_kernel(x, residual, weight, length, epsilon, BLOCK: tl.constexpr):
    """Add ``x`` to the residual, and put the norm of the sum into ``x``: a row a workgroup, both in place."""
    at = tl.arange(0, BLOCK)
    inside = at < length
    row = tl.program_id(0) * length
    values = tl.load(x + row + at, mask=inside, other=0.0).to(tl.float32)
    values += tl.load(residual + row + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(residual + row + at, values, mask=inside)
    inverse = tl.rsqrt(tl.sum(values * values, axis=0) / length + epsilon)
    weights = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(x + row + at, values * inverse * weights, mask=inside)


@triton.jit
def rotary_embedding_kernel(
    positions, qkv, cos_sin, stride, HEADS: tl.constexpr, BLOCK: tl.constexpr, HALF: tl.constexpr
):
    """Rotate the queries and keys of a token, its first HEADS heads, in place: a workgroup a token."""
    token = tl.program_id(0)
    position = tl.load(positions + token)
    head = tl.arange(0, BLOCK)[:, None]
    half = tl.arange(0, HALF)[None, :]
    inside = (head < HEADS) & (half < HALF)
    cosine = tl.load(cos_sin + position * 2 * HALF + half).to(tl.float32)
    sine = tl.load(cos_sin + position * 2 * HALF + HALF + half).to(tl.float32)
    at = qkv + token * stride + head * 2 * HALF + half
    first = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(at + HALF, mask=inside, other=0.0).to(tl.float32)
    tl.store(at, first * cosine - second * sine, mask=inside)
    tl.store(at + HALF, second * cosine + first * sine, mask=inside)


@triton.jit
def reshape_and_cache_kernel(
    qkv, keys, values, slots, stride, FIRST: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr
):
    """Write keys and values of a token, WIDTH elements each from FIRST on, to its slot."""
    token = tl.program_id(0)
    slot = tl.load(slots + token)
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    row = qkv + token * stride + FIRST
    tl.store(keys + slot * WIDTH + at, tl.load(row + at, mask=inside), mask=inside)
    tl.store(values + slot * WIDTH + at, tl.load(row + WIDTH + at, mask=inside), mask=inside)


@triton.jit
def _attend(
    query,
    keys,
    values,
    table,
    kv_head,
    begin,
    end,
    scale,
    KV_HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    PAGE: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Attend to tokens ``begin`` to ``end``; return the weighted sum, the sum of weights, their exponent."""
    dim = tl.arange(0, WIDTH)
    best = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    result = tl.zeros([ROWS, WIDTH], tl.float32)
    for first in range(begin, end, TILE):
        token = first + tl.arange(0, TILE)
        inside = token < end
        page = tl.load(table + token // PAGE, mask=inside, other=0).to(tl.int64)
        at = ((page * PAGE + token % PAGE) * KV_HEADS + kv_head) * WIDTH
        key = tl.load(keys + at[None, :] + dim[:, None], mask=inside[None, :], other=0.0)
        scores = tl.where(inside[None, :], tl.dot(query, key) * scale, float("-inf"))
        most = tl.maximum(best, tl.max(scores, axis=1))
        weights = tl.exp2(scores - most[:, None])
        kept = tl.exp2(best - most)
        total = total * kept + tl.sum(weights, axis=1)
        value = tl.load(values + at[:, None] + dim[None, :], mask=inside[:, None], other=0.0)
        result = tl.dot(weights.to(value.dtype), value, result * kept[:, None])
        best = most
    return result, total, best


@triton.jit
def paged_attention_decode_kernel(
    qkv,
    keys,
    values,
    tables,
    positions,
    out,
    scale,
    stride,
    table_stride,
    GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    PAGE: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Attend with one token of each sequence: a workgroup a sequence and key-value head."""
    sequence, kv_head = tl.program_id(0), tl.program_id(1)
    length = tl.load(positions + sequence).to(tl.int32) + 1
    row = tl.arange(0, ROWS)[:, None]
    at = (kv_head * GROUP + row) * WIDTH + tl.arange(0, WIDTH)[None, :]
    query = tl.load(qkv + sequence * stride + at, mask=row < GROUP, other=0.0)
    table = tables + sequence * table_stride
    result, total, _ = _attend(
        query, keys, values, table, kv_head, 0, length, scale, KV_HEADS, WIDTH, PAGE, ROWS, TILE
    )
    found = out + sequence * KV_HEADS * GROUP * WIDTH + at
    tl.store(found, result / total[:, None], mask=row < GROUP)


@triton.jit
def paged_attention_decode_split_kernel(
    qkv,
    keys,
    values,
    tables,
    positions,
    sums,
    totals,
    bests,
    scale,
    stride,
    table_stride,
    GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    PAGE: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Attend with one token of each sequence to a segment of its context: segments along the grid's z."""
    sequence, kv_head, segment = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    segments = tl.num_programs(2)
    length = tl.load(positions + sequence).to(tl.int32) + 1
    each = tl.cdiv(tl.cdiv(length, TILE), segments) * TILE
    begin = segment * each
    end = tl.minimum(begin + each, length)
    row = tl.arange(0, ROWS)
    dim = tl.arange(0, WIDTH)[None, :]
    head = kv_head * GROUP + row
    query = tl.load(
        qkv + sequence * stride + head[:, None] * WIDTH + dim, mask=row[:, None] < GROUP, other=0.0
    )
    table = tables + sequence * table_stride
    result, total, best = _attend(
        query, keys, values, table, kv_head, begin, end, scale, KV_HEADS, WIDTH, PAGE, ROWS, TILE
    )
    part = (sequence * KV_HEADS * GROUP + head) * segments + segment
    tl.store(sums + part[:, None] * WIDTH + dim, result, mask=row[:, None] < GROUP)
    tl.store(totals + part, total, mask=row < GROUP)
    tl.store(bests + part, best, mask=row < GROUP)


@triton.jit
def paged_attention_decode_reduce_kernel(
    sums, totals, bests, out, SEGMENTS: tl.constexpr, WIDTH: tl.constexpr
):
    """Add up the segments of a sequence's head, of which those past its end weigh nothing."""
    part = (tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)) * SEGMENTS + tl.arange(0, SEGMENTS)
    dim = tl.arange(0, WIDTH)
    best = tl.load(bests + part)
    weights = tl.exp2(best - tl.max(best, axis=0))
    total = tl.sum(weights * tl.load(totals + part), axis=0)
    result = tl.sum(weights[:, None] * tl.load(sums + part[:, None] * WIDTH + dim[None, :]), axis=0)
    row = (tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)) * WIDTH
    tl.store(out + row + dim, result / total)


@triton.jit
def silu_and_mul_kernel(gate_up, out, width, BLOCK: tl.constexpr):
    """Gate a token's half with its other: BLOCK columns of a token a workgroup."""
    token = tl.program_id(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    gate = tl.load(gate_up + token * 2 * width + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + token * 2 * width + width + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + token * width + at, gate / (1.0 + tl.exp(-gate)) * up, mask=inside)
