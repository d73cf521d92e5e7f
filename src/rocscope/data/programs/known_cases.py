"""The kernels of known_kernels.py with their operands: how each is launched, and what must be true of it."""

import contextlib
from typing import Any

import torch

try:
    import triton
except ImportError:
    triton = None
else:
    import known_triton as kernels

MIB = 1 << 20
COPY_ITEMS = 64 * MIB  # of 4 bytes
COPY_BLOCK = 1024
FMA_ITEMS = 4 * MIB  # of 4 bytes
FMA_BLOCK = 1024
FMA_STEPS = 2048  # of two fused multiply-adds an element
MATRIX = 4096
TILE_M, TILE_N, TILE_K = 128, 64, 32
W4_ROWS, W4_K, W4_N, W4_GROUP = 16, 8192, 32768, 128
W4_BLOCK_N, W4_BLOCK_K = 64, 64
HEADS, CONTEXT, WIDTH, TOKENS = 128, 4096, 128, 64  # sequences times heads; tokens a step
NORM_ROWS, NORM_WIDTH = 8192, 4096
WARPS = 4
CHECK_ROWS = 64  # of a result held against torch's


class Case:
    """One kernel: how to launch it, and what must be true of each launch."""

    def __init__(self, case: str, pattern: str, launch: Any, **truth: Any) -> None:
        self.launch, self.launched = launch, 0
        self.reference: Any = truth.pop("reference", None)  # gives the result and what it should be
        self.truth: dict[str, Any] = {
            "case": case,
            "pattern": pattern,
            "launches_exact": True,
            "programs": None,
            "workgroup": None,
            "read_least_bytes": None,  # what must be touched once, be it in a cache or not
            "read_most_bytes": None,  # what is asked for, were there no cache
            "write_least_bytes": None,
            "write_most_bytes": None,
            "flops": None,
            "flops_unit": None,
            **truth,
        }

    def run(self, count: int) -> None:
        """Launch it so often."""
        for _ in range(count):
            self.launch()
        self.launched += count


def moved(read: int, written: int, read_most: int | None = None) -> dict[str, int]:
    """Return the truth of a kernel that touches so many bytes, each written once."""
    return {
        "read_least_bytes": read,
        "read_most_bytes": read if read_most is None else read_most,
        "write_least_bytes": written,
        "write_most_bytes": written,
    }


def launched_as(programs: int, threads: int, second: int = 1) -> dict[str, Any]:
    """Return the launch shape: programs are workgroups, along x and y."""
    return {"programs": [programs, second, 1], "workgroup": [threads, 1, 1]}


def named(name: str) -> str:
    """Return the pattern of a Triton kernel's name, to which older ones add how it was specialised."""
    return rf"{name}(_[0-9a-z]+)?"


def fma_case(threads: int, name: str) -> Case:
    """Make the vector loop; ``name`` is fma, or load where time and not the count is fixed."""
    source = torch.rand(FMA_ITEMS, device="cuda", dtype=torch.float32)
    target = torch.empty_like(source)
    kernel = kernels.rocscope_known_load if name == "load" else kernels.rocscope_known_fma
    programs = FMA_ITEMS // FMA_BLOCK

    def expected() -> tuple[Any, Any]:
        a, b = source[:CHECK_ROWS].double(), source[:CHECK_ROWS].double() * 0.5
        for _ in range(FMA_STEPS):
            a = b * -0.75 + a  # a rotation: neither grows nor dies away
            b = a * 0.75 + b
        return target[:CHECK_ROWS], a + b

    return Case(
        name,
        named(f"rocscope_known_{name}"),
        lambda: kernel[(programs,)](source, target, FMA_STEPS, FMA_BLOCK, num_warps=WARPS),
        reference=expected,
        flops=4 * FMA_ITEMS * FMA_STEPS,
        flops_unit="vector_fp32",
        **launched_as(programs, threads),
        **moved(4 * FMA_ITEMS, 4 * FMA_ITEMS),
    )


def copy_case(threads: int) -> Case:
    """Make the copy."""
    source = torch.rand(COPY_ITEMS, device="cuda", dtype=torch.float32)
    target = torch.zeros_like(source)
    programs = COPY_ITEMS // COPY_BLOCK
    return Case(
        "copy",
        named("rocscope_known_copy"),
        lambda: kernels.rocscope_known_copy[(programs,)](source, target, COPY_BLOCK, num_warps=WARPS),
        reference=lambda: (target, source),
        flops=0,
        **launched_as(programs, threads),
        **moved(4 * COPY_ITEMS, 4 * COPY_ITEMS),
    )


def matrix_case(threads: int) -> Case:
    """Make the matrix product by Triton."""
    left = torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.float16)
    right = torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.float16)
    out = torch.empty_like(left)
    grid = (MATRIX // TILE_M, MATRIX // TILE_N)
    tiles = 2 * MATRIX * (TILE_M + TILE_N) * grid[0] * grid[1]
    return Case(
        "matrix",
        named("rocscope_known_matrix"),
        lambda: kernels.rocscope_known_matrix[grid](
            left, right, out, MATRIX, TILE_M, TILE_N, TILE_K, num_warps=WARPS
        ),
        reference=lambda: (out[:CHECK_ROWS], left[:CHECK_ROWS].double() @ right.double()),
        flops=2 * MATRIX**3,
        flops_unit="matrix_fp16",
        **launched_as(grid[0], threads, grid[1]),
        **moved(4 * MATRIX**2, 2 * MATRIX**2, tiles),
    )


def w4a16_case(threads: int) -> Case:
    """Make the product with weights of 4 bit."""
    x = torch.randn(W4_ROWS, W4_K, device="cuda", dtype=torch.float16)
    words = torch.randint(-(1 << 31), (1 << 31) - 1, (W4_K // 8, W4_N), device="cuda", dtype=torch.int32)
    groups = W4_K // W4_GROUP
    scales = torch.rand(groups, W4_N, device="cuda", dtype=torch.float32).mul_(0.01).to(torch.float16)
    zeros = torch.randint(0, 16, (groups, W4_N), device="cuda").to(torch.float16)
    out = torch.empty(W4_ROWS, W4_N, device="cuda", dtype=torch.float16)
    programs = W4_N // W4_BLOCK_N

    def expected() -> tuple[Any, Any]:
        count = CHECK_ROWS  # columns here
        shifts = 4 * torch.arange(8, device="cuda", dtype=torch.int32)
        nibbles = (words[:, None, :count] >> shifts[None, :, None]) & 15
        zero, scale = (each[:, :count].double().repeat_interleave(W4_GROUP, 0) for each in (zeros, scales))
        return out[:, :count], x.double() @ ((nibbles.reshape(W4_K, count).double() - zero) * scale)

    weights = words.numel() * 4 + (scales.numel() + zeros.numel()) * 2
    # each scale is loaded W4_GROUP / W4_BLOCK_K times, the inputs once a workgroup
    most = words.numel() * 4 * 8 + (scales.numel() + zeros.numel()) * 2 * (W4_GROUP // W4_BLOCK_K)
    return Case(
        "w4a16",
        named("rocscope_known_w4a16"),
        lambda: kernels.rocscope_known_w4a16[(programs,)](
            x,
            words,
            scales,
            zeros,
            out,
            W4_K,
            W4_N,
            W4_ROWS,
            W4_GROUP,
            W4_BLOCK_N,
            W4_BLOCK_K,
            num_warps=WARPS,
        ),
        reference=expected,
        flops=2 * W4_ROWS * W4_K * W4_N,
        flops_unit="matrix_fp16",
        **launched_as(programs, threads),
        **moved(weights + x.numel() * 2, out.numel() * 2, most + programs * x.numel() * 2),
    )


def attention_case(threads: int) -> Case:
    """Make the attention of one token a sequence."""
    query = torch.randn(HEADS, WIDTH, device="cuda", dtype=torch.float16)
    keys = torch.randn(HEADS, CONTEXT, WIDTH, device="cuda", dtype=torch.float16)
    values = torch.randn(HEADS, CONTEXT, WIDTH, device="cuda", dtype=torch.float16)
    out = torch.empty_like(query)
    scale = WIDTH**-0.5

    def expected() -> tuple[Any, Any]:
        q, k, v = (each[:CHECK_ROWS].double() for each in (query, keys, values))
        shares = torch.softmax((k * q[:, None, :]).sum(-1) * scale, dim=-1)
        return out[:CHECK_ROWS], (v * shares[:, :, None]).sum(1)

    cached = 2 * keys.numel() * 2
    return Case(
        "attention",
        named("rocscope_known_attention"),
        lambda: kernels.rocscope_known_attention[(HEADS,)](
            query, keys, values, out, CONTEXT, scale, WIDTH, TOKENS, num_warps=WARPS
        ),
        reference=expected,
        flops=4 * HEADS * CONTEXT * WIDTH,
        **launched_as(HEADS, threads),
        **moved(cached + query.numel() * 2, out.numel() * 2),
    )


def rmsnorm_case(threads: int) -> Case:
    """Make the norm of rows."""
    x = torch.randn(NORM_ROWS, NORM_WIDTH, device="cuda", dtype=torch.float16)
    weight = torch.rand(NORM_WIDTH, device="cuda", dtype=torch.float16)
    out = torch.empty_like(x)

    def expected() -> tuple[Any, Any]:
        rows = x[:CHECK_ROWS].double()
        norm = (rows.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        return out[:CHECK_ROWS], rows * norm * weight.double()

    size = x.numel() * 2
    again = (NORM_ROWS - 1) * NORM_WIDTH * 2  # every row loads the weights
    return Case(
        "rmsnorm",
        named("rocscope_known_rmsnorm"),
        lambda: kernels.rocscope_known_rmsnorm[(NORM_ROWS,)](x, weight, out, NORM_WIDTH, num_warps=WARPS),
        reference=expected,
        **launched_as(NORM_ROWS, threads),
        **moved(size + NORM_WIDTH * 2, size, size + NORM_WIDTH * 2 + again),
    )


def empty_case(threads: int) -> Case:
    """Make the kernel that does nothing, of one wave."""
    flag = torch.zeros(1, dtype=torch.int32, device="cuda")
    return Case(
        "empty",
        named("rocscope_known_empty"),
        lambda: kernels.rocscope_known_empty[(1,)](flag, num_warps=1),
        reference=lambda: (flag, torch.ones_like(flag)),
        flops=0,
        **launched_as(1, threads // WARPS),
    )


def library_copy_case(_threads: int) -> Case:
    """Make a copy by torch's own kernel, which chooses its launch itself."""
    source = torch.rand(COPY_ITEMS, device="cuda", dtype=torch.float32)
    target = torch.zeros_like(source)
    return Case(
        "library_copy",
        r".*neg_kernel.*",
        lambda: torch.neg(source, out=target),
        reference=lambda: (target, -source),
        flops=0,
        **moved(4 * COPY_ITEMS, 4 * COPY_ITEMS),
    )


def library_matrix_case(_threads: int) -> Case:
    """Make a matrix product by the library, which may launch other kernels beside it."""
    left = torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.float16)
    right = torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.float16)
    out = torch.empty_like(left)
    return Case(
        "library_matrix",
        r"(?i).*(cijk_|gemm|nvjet|cutlass|xmma).*",
        lambda: torch.mm(left, right, out=out),
        reference=lambda: (out[:CHECK_ROWS], left[:CHECK_ROWS].double() @ right.double()),
        launches_exact=False,
        flops=2 * MATRIX**3,
        flops_unit="matrix_fp16",
        **moved(4 * MATRIX**2, 2 * MATRIX**2, 4 * MATRIX**3),
    )


TRITON_CASES = {
    "fma": lambda threads: fma_case(threads, "fma"),
    "copy": copy_case,
    "matrix": matrix_case,
    "w4a16": w4a16_case,
    "attention": attention_case,
    "rmsnorm": rmsnorm_case,
    "empty": empty_case,
}
LIBRARY_CASES = {"library_copy": library_copy_case, "library_matrix": library_matrix_case}


def busy(threads: int) -> Any:
    """Return what keeps the GPU busy for about a millisecond, under a name of its own."""
    if triton is not None:
        with contextlib.suppress(Exception):  # a Triton that cannot compile here is told by its cases
            launch = fma_case(threads, "load").launch
            launch()
            return launch
    values = torch.ones(128 * MIB, device="cuda", dtype=torch.float32)
    return lambda: values.mul_(1.0)
