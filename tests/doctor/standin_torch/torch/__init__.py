"""Stand-in for torch with a GPU: takes the calls that the program makes; its times are SYNTHETIC."""

import os
from types import SimpleNamespace

__version__ = "0.stand-in"
float32, float16, bfloat16, int8, int32 = "float32", "float16", "bfloat16", "int8", "int32"
float8_e4m3fnuz = "fp8"
version = SimpleNamespace(hip="6.3.0", cuda=None)
backends = SimpleNamespace(cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=True)))
_MS = 2.0


class Tensor:
    def __init__(self, count=0):
        self.count = count

    def to(self, dtype):
        if dtype == "fp8":
            raise TypeError("no such type on this card\nand more lines")
        return self

    def t(self):
        return self

    clamp = mul = fill_ = lambda self, *_: self

    def sum(self):
        return 1.0


def _make(*sizes, **_):
    if os.environ.get("STANDIN_TORCH") == "full" and sizes[0] >= 1 << 28:
        raise RuntimeError("HIP out of memory")
    return Tensor(sizes[0] if isinstance(sizes[0], int) else 1)


ones = zeros = randn = rand = _make


def empty_like(other):
    return Tensor(other.count)


def neg(source, out=None):
    return out


def mm(a, b, out=None):
    return out


def _int_mm(a, b):
    raise RuntimeError("")


def _scaled_mm(a, b, **_):
    return a


class _Event:
    def __init__(self, **_):
        pass

    def record(self):
        pass

    def elapsed_time(self, other):
        return _MS


class _Stream:
    def wait_stream(self, other):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class _Graph:
    def replay(self):
        pass


class _Capture(_Stream):
    def __init__(self, graph):
        pass

    def __enter__(self):
        if os.environ.get("STANDIN_TORCH") == "nograph":
            raise RuntimeError("capture failed")
        return self


cuda = SimpleNamespace(
    Event=_Event,
    Stream=_Stream,
    CUDAGraph=_Graph,
    graph=_Capture,
    stream=lambda stream: stream,
    current_stream=_Stream,
    synchronize=lambda: None,
    mem_get_info=lambda: (64 << 30, 64 << 30),
    is_available=lambda: os.environ.get("STANDIN_TORCH") != "nogpu",
    device_count=lambda: 2,
    set_device=lambda index: None,
    get_device_properties=lambda index: SimpleNamespace(
        name="AMD Instinct MI100",
        gcnArchName="gfx908:sramecc+:xnack-",
        uuid="30303030-3030-3030-3030-303061626330",
        multi_processor_count=120,
        total_memory=32 << 30,
    ),
)
