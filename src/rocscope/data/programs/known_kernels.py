"""Launch kernels of which everything is known beforehand, and say as JSON what must be true of them.

Runs in any Python that has torch with a GPU (and Triton, for all kernels but two); it imports nothing else,
so that it can be carried to a container. A profiler that watches it must see each kernel as often, with such
a grid and such traffic as is printed here. Sizes and counts are fixed: two runs launch the same. Times are
those of the GPU's events around several launches. What is being run is said on standard error.
usage: known_kernels.py [--device N] [--output FOLDER] [--energy-seconds S] [--verify] [--probe]
"""

# ruff: noqa: ANN001, ANN201, PLR0917  # Triton reads annotations of kernels, whose operands are many

import argparse
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

try:
    import torch
except ImportError:
    sys.exit("this Python has no torch")

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

MIB = 1 << 20
WARM = 2  # launches that compile and fill caches, not timed
BATCHES, EACH = 5, 10  # timed launches: so often, so many between two events
AHEAD = 3  # launches of the load before them, so that they wait in the queue, one behind the other
SPINS = 60  # launches of the vector loop before all else, for clocks to rise
EMPTY_LAUNCHES = 100
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

if triton is not None:

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


def say(text: str) -> None:
    """Tell whoever waits what is being run."""
    print(f"known kernels: {text}", file=sys.stderr, flush=True)


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
    kernel = rocscope_known_load if name == "load" else rocscope_known_fma
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
        lambda: rocscope_known_copy[(programs,)](source, target, COPY_BLOCK, num_warps=WARPS),
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
        lambda: rocscope_known_matrix[grid](
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
        lambda: rocscope_known_w4a16[(programs,)](
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
        lambda: rocscope_known_attention[(HEADS,)](
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
        lambda: rocscope_known_rmsnorm[(NORM_ROWS,)](x, weight, out, NORM_WIDTH, num_warps=WARPS),
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
        lambda: rocscope_known_empty[(1,)](flag, num_warps=1),
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


def timed(case: Case, ahead: Any) -> dict[str, Any]:
    """Launch a case; return what a launch took by the GPU's events, and whether the launches had no gaps.

    ``ahead`` keeps the GPU busy while they are put into its queue.
    """
    case.run(WARM)
    torch.cuda.synchronize()
    each = EMPTY_LAUNCHES // BATCHES if case.truth["case"] == "empty" else EACH
    times, waited = [], []
    for _ in range(BATCHES):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(AHEAD):
            ahead()
        first.record()
        case.run(each)
        last.record()
        waited.append(not first.query())
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last) * 1e6 / each)
    return {
        "timed_launches": each * BATCHES,  # the last of all
        "event_ns": statistics.median(times),
        "event_least_ns": min(times),
        "event_most_ns": max(times),
        "queued": all(waited),  # else the events include waiting for the host
    }


def busy(threads: int) -> Any:
    """Return what keeps the GPU busy for about a millisecond, under a name of its own."""
    if triton is not None:
        return fma_case(threads, "load").launch
    values = torch.ones(128 * MIB, device="cuda", dtype=torch.float32)
    return lambda: values.mul_(1.0)


def verified(case: Case) -> dict[str, Any]:
    """Hold the result against torch's, in 64 bit: the largest error as a share of the largest value."""
    found, expected = case.reference()
    expected = expected.double()
    scale = max(float(expected.abs().max()), 1e-30)
    error = float((found.double() - expected).abs().max()) / scale
    return {"result_error_frac": error if math.isfinite(error) else None}


def watched(seconds: float, threads: int) -> dict[str, Any] | None:
    """Keep the GPU busy for so long, and say when; clock: since boot."""
    if seconds <= 0 or triton is None:
        return None
    say(f"load for {seconds:g} s")
    case = fma_case(threads, "load")
    case.run(SPINS)
    torch.cuda.synchronize()
    began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    while time.clock_gettime_ns(time.CLOCK_BOOTTIME) - began < seconds * 1e9:
        case.run(20)
        torch.cuda.synchronize()
    ended = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return {"start_boottime_ns": began, "end_boottime_ns": ended, "launches": case.launched}


def wave_size(properties: Any) -> int:
    """Return how many threads a wave has here."""
    if getattr(properties, "warp_size", None):
        return int(properties.warp_size)
    return 64 if torch.version.hip and properties.gcnArchName.startswith("gfx9") else 32


def described(index: int) -> dict[str, Any]:
    """Say what device this is."""
    properties = torch.cuda.get_device_properties(index)
    arch = properties.gcnArchName if torch.version.hip else f"sm_{properties.major}{properties.minor}"
    return {
        "index": index,
        "count": torch.cuda.device_count(),
        "name": properties.name,
        "arch": arch,
        "compute_units": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "wave_size": wave_size(properties),
    }


def first_line(error: BaseException) -> str:
    """Say in a line what went wrong."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0][:200]}"


def all_cases(threads: int, *, verify: bool) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Run every case; return the truth of each, and why others could not be run."""
    found: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    if triton is None:
        left_out = dict.fromkeys(TRITON_CASES, "this Python has no Triton")
    ahead = busy(threads)
    makers = {**(TRITON_CASES if triton is not None else {}), **LIBRARY_CASES}
    for name, make in makers.items():
        say(name)
        try:
            case = make(threads)
            if name == "fma":
                case.run(SPINS)
            times = timed(case, ahead)
            checked = verified(case) if verify else {}
            found.append({**case.truth, **times, **checked, "launches": case.launched})
        except Exception as error:  # noqa: BLE001  # what torch and Triton raise differs by version and card
            left_out[name] = first_line(error)
        case = None
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    return found, left_out


def main() -> None:
    """Run all kernels on one device and print what must be true of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--output", type=Path, help="folder for PID.json, in place of standard output")
    parser.add_argument("--energy-seconds", type=float, default=0.0, help="of load, for the energy meter")
    parser.add_argument("--verify", action="store_true", help="hold the results against torch's")
    parser.add_argument("--probe", action="store_true", help="only say what device and software this is")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU in this Python")
    count = torch.cuda.device_count()
    if options.device not in range(count):
        sys.exit(f"torch sees {count} GPUs: there is no device {options.device}")
    torch.cuda.set_device(options.device)
    device = described(options.device)
    result: dict[str, Any] = {
        "schema_version": "1",
        "pid": os.getpid(),
        "start_boottime_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        "device": device,
        "software": {
            "torch": torch.__version__,
            "runtime": torch.version.hip or torch.version.cuda,
            "triton": getattr(triton, "__version__", None),
        },
    }
    if not options.probe:
        threads = WARPS * device["wave_size"]
        torch.manual_seed(0)
        result["kernels"], result["left_out"] = all_cases(threads, verify=options.verify)
        result["energy"] = watched(options.energy_seconds, threads)
    text = json.dumps(result, indent=1)
    if options.output is None:
        print(text)
        return
    options.output.mkdir(parents=True, exist_ok=True)
    partial = options.output / f"{os.getpid()}.part"
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(options.output / f"{os.getpid()}.json")


if __name__ == "__main__":
    main()
