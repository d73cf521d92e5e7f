"""Measure what a GPU achieves: copy bandwidth by size, vector and matrix rates, the launch floor; as JSON.

Runs in any Python that has torch with a GPU (and Triton, for the vector rates); it imports nothing else, so
that it can be carried to a container. Each figure is the best of several repeats, timed by the GPU's events
around a captured graph where one can be captured, so that launching does not count. What is being measured is
said on standard error. usage: ceilings.py [--device N] [--repeats N]
"""

import argparse
import json
import statistics
import sys
import time
from typing import Any

try:
    import torch
except ImportError:
    sys.exit("this Python has no torch: name one that has with --python")

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

MIB = 1 << 20
COPY_SIZES = tuple(size * MIB for size in (1, 4, 16, 64, 256, 1024))  # bytes of the source
MATRIX = 8192
VECTOR_ITEMS = 1 << 24
VECTOR_STEPS = 1024  # fused multiply-adds an element does, twice
VECTOR_BLOCK = 1024
LAUNCHES = 200

if triton is not None:

    @triton.jit
    def vector_fma(source, target, steps, block: tl.constexpr):  # noqa: ANN001, ANN201  # Triton reads them
        """Two dependent chains of fused multiply-adds on each element, from registers."""
        at = tl.program_id(0) * block + tl.arange(0, block)
        a = tl.load(source + at)
        b = a * 0.5
        for _ in range(steps):
            a = a * 0.999 + b
            b = b * 0.998 + a
        tl.store(target + at, a + b)

    @triton.jit
    def nothing(target):  # noqa: ANN001, ANN201  # as above
        """Next to nothing: what it takes is the launch."""
        tl.store(target, 1)


def say(text: str) -> None:
    """Tell whoever waits what is being measured."""
    print(f"measuring {text}", file=sys.stderr, flush=True)


def timed(work: Any, repeats: int) -> tuple[float, float]:
    """Best and median seconds of ``work``, called once to warm up."""
    work()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        work()
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last) / 1e3)
    return min(times), statistics.median(times)


def graphed(work: Any, calls: int) -> tuple[Any, bool]:
    """Return a callable that replays ``calls`` of ``work`` from one graph, and whether one could be made.

    Where none can, the callable runs them one by one.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for _ in range(calls):
                work()
    except RuntimeError:
        torch.cuda.synchronize()
        return lambda: [work() for _ in range(calls)], False
    return graph.replay, True


def tried(work: Any, name: str, errors: dict[str, str]) -> Any:
    """Return what ``work`` gives; where it fails, ``None``, and the reason under ``name`` in ``errors``."""
    say(name)
    try:
        return work()
    except Exception as error:  # noqa: BLE001  # what torch and Triton raise differs by version and back end
        first = (str(error).splitlines() or ["no message"])[0]
        errors[name] = f"{type(error).__name__}: {first[:200]}"
        torch.cuda.synchronize()
        return None


def copy(size: int, repeats: int) -> dict[str, float]:
    """Bytes read plus written a second, of a source of ``size`` bytes."""
    source = torch.ones(size // 4, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    calls = max(1, min(64, (256 * MIB) // size))
    # a kernel, since a copy of torch's may be done by another engine
    replay, _ = graphed(lambda: torch.neg(source, out=target), calls)
    best, median = timed(replay, repeats)
    moved = 2 * size * calls
    return {"size_bytes": size, "bytes_per_s": moved / best, "median_bytes_per_s": moved / median}


def copies(repeats: int, errors: dict[str, str]) -> list[dict[str, float]]:
    """Copies of each size for which there is memory."""
    found = (
        tried(lambda s=size: copy(s, repeats), f"copy of {size // MIB} MiB", errors) for size in COPY_SIZES
    )
    return [each for each in found if each]


def read(repeats: int) -> dict[str, float]:
    """Bytes a second of a sum over 4 GiB, or half of what is free: reading alone."""
    free, _ = torch.cuda.mem_get_info()
    count = min(1 << 30, free // 8)
    values = torch.ones(count, dtype=torch.float32, device="cuda")
    best, median = timed(values.sum, repeats)
    size = 4 * count
    return {"size_bytes": size, "bytes_per_s": size / best, "median_bytes_per_s": size / median}


def matrices(repeats: int, errors: dict[str, str]) -> dict[str, dict[str, float]]:
    """FLOPs a second of a square product, by type; a type this card or torch cannot multiply is left out."""
    found = {}
    for unit, dtype in (
        ("matrix_fp16", torch.float16),
        ("matrix_bf16", torch.bfloat16),
        ("matrix_fp32", torch.float32),
        ("matrix_int8", torch.int8),
        ("matrix_fp8", getattr(torch, "float8_e4m3fnuz" if torch.version.hip else "float8_e4m3fn", None)),
    ):
        if dtype is None:
            continue
        times = tried(lambda u=unit, d=dtype: timed(product(u, d), repeats), unit, errors)
        if times:
            flops = 2 * MATRIX**3
            rates = {"flops_per_s": flops / times[0], "median_flops_per_s": flops / times[1]}
            found[unit] = {**rates, "size": MATRIX}
    return found


def product(unit: str, dtype: Any) -> Any:
    """Return a call that multiplies two square matrices of ``dtype``."""
    left = torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.float32)
    right = torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.float32)
    if unit == "matrix_int8":
        a, b = (each.clamp(-1, 1).mul(100).to(dtype) for each in (left, right))
        return lambda: torch._int_mm(a, b.t())  # the fast path wants the right one by columns
    if unit == "matrix_fp8":
        a, b = left.to(dtype), right.to(dtype).t()
        one = torch.ones((), device="cuda")
        return lambda: torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = left.to(dtype), right.to(dtype)
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def vector(dtype: Any, repeats: int) -> dict[str, float]:
    """FLOPs a second of fused multiply-adds on the vector unit; two FLOPs each."""
    source = torch.rand(VECTOR_ITEMS, device="cuda").to(dtype)
    target = torch.empty_like(source)
    programs = (VECTOR_ITEMS // VECTOR_BLOCK,)
    best, median = timed(lambda: vector_fma[programs](source, target, VECTOR_STEPS, VECTOR_BLOCK), repeats)
    flops = 4 * VECTOR_ITEMS * VECTOR_STEPS
    return {"flops_per_s": flops / best, "median_flops_per_s": flops / median}


def vectors(repeats: int, errors: dict[str, str]) -> dict[str, dict[str, float]]:
    """Rates of the vector unit by type; none without Triton."""
    found: dict[str, dict[str, float]] = {}
    for unit, dtype in (("vector_fp32", torch.float32), ("vector_fp16", torch.float16)):
        if triton is None:
            errors[unit] = "this Python has no Triton"
        elif rates := tried(lambda d=dtype: vector(d, repeats), unit, errors):
            found[unit] = rates
    return found


def launches(repeats: int, errors: dict[str, str]) -> dict[str, Any]:
    """Seconds a launch of a kernel that does next to nothing: from a graph, and one by one."""
    flag = torch.zeros(1, dtype=torch.int32, device="cuda")
    works = [lambda: flag.fill_(1)]
    if triton is not None:
        works.insert(0, lambda: nothing[(1,)](flag, num_warps=1))
    floor = None
    for work, name in zip(works, ("launch", "launch of a fill"), strict=False):
        measured = tried(lambda w=work: launch_floor(w, repeats), name, errors)
        if measured is not None:
            floor = measured or None
            break
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(LAUNCHES):
        flag.fill_(1)
    torch.cuda.synchronize()
    return {"graph_launch_s": floor, "eager_launch_s": (time.perf_counter() - began) / LAUNCHES}


def launch_floor(work: Any, repeats: int) -> float:
    """Seconds from one launch to the next in a graph; 0 where no graph can be made."""
    replay, captured = graphed(work, LAUNCHES)
    return timed(replay, repeats)[0] / LAUNCHES if captured else 0.0


def main() -> None:
    """Measure one device and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU in this Python")
    count = torch.cuda.device_count()
    if options.device not in range(count):
        sys.exit(f"torch sees {count} GPUs: there is no device {options.device}")
    torch.cuda.set_device(options.device)
    properties = torch.cuda.get_device_properties(options.device)
    arch = properties.gcnArchName if torch.version.hip else f"sm_{properties.major}{properties.minor}"
    errors: dict[str, str] = {}
    matrix = matrices(options.repeats, errors)  # first, while the card is cool
    result = {
        "schema_version": "1",
        "device": {
            "index": options.device,
            "count": count,
            "name": properties.name,
            "arch": arch,
            "uuid": str(getattr(properties, "uuid", "")) or None,
            "compute_units": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
        },
        "software": {
            "torch": torch.__version__,
            "runtime": torch.version.hip or torch.version.cuda,
            "triton": getattr(triton, "__version__", None),
        },
        "repeats": options.repeats,
        "copy": copies(options.repeats, errors),
        "read": tried(lambda: read(options.repeats), "read", errors),
        "flops": {**vectors(options.repeats, errors), **matrix},
        "launch": launches(options.repeats, errors),
        "errors": errors,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
