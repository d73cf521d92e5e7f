"""Whether a launch can be a product of a given layer: operator, block counts and tiles held against it.

Sources of the tiles: Tensile's kernel names (``MT<a>x<b>x<k>``: a tile of the output, whose first side lies
along N for row-major operands, workgroups a whole number of times the tiles), cuBLAS's
(``nvjet_.._<a>x<b>_``, at most one workgroup a tile but for the rounding to clusters, several with split-K),
and the kernels' own launches named in the modules of their models.
"""

from __future__ import annotations

import math
import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models import awq, gemm, gptq, reconstruct, skinny, w4a16
from rocscope.models.model import Dispatch
from rocscope.models.served import Linear, ServedModel
from rocscope.models.shapes import workgroups

_TENSILE: Final = re.compile(r"_MT(\d{1,4})x(\d{1,4})x\d{1,4}")
_SPLIT_K: Final = re.compile(r"_GSU(\d{1,3})(?:_|$)")  # at run time where the name has UserArgs
_STREAM_K: Final = re.compile(r"_SK[1-9]")
_CUBLAS: Final = re.compile(r"^nvjet_sm\d+_[a-z]+_(\d{1,4})x(\d{1,4})_\d+x\d+_(\d)x(\d)_")
_FUSED: Final = re.compile(r"gemm_half_q_half_(?:gptq|alt)_([2348])bit_kernel")


def fits(dispatch: Dispatch, layer: Linear, m: int | None, served: ServedModel) -> bool:
    """Return whether nothing known of ``dispatch`` speaks against [m, K] times [K, N] of ``layer``."""
    known = gemm.operator_product(dispatch)
    if known is not None:
        return known[1:] == (layer.n, layer.k) and m in (None, known[0])
    name = short_name(dispatch.raw_name)
    if fused := _FUSED.fullmatch(name):
        bits = served.quantization.bits if served.quantization else None
        return bits == int(fused[1]) and ("_alt_" in name or _inside(gptq.launch_ranges(dispatch), layer))
    for found in (reconstruct.ranges(dispatch), awq.dequantise_ranges(dispatch), skinny.ranges(dispatch)):
        if found is not None:
            return _inside(found, layer)
    for test in (w4a16.fits, awq.fits):
        answer = test(dispatch, layer, m)
        if answer is not None:
            return answer
    return _tiles_fit(dispatch, name, layer, m)


def _inside(ranges: tuple[range, range] | None, layer: Linear) -> bool:
    return ranges is None or (layer.n in ranges[0] and layer.k in ranges[1])


def _tiles_fit(dispatch: Dispatch, name: str, layer: Linear, m: int | None) -> bool:
    grid = workgroups(dispatch)
    if grid is None:
        return True
    count = math.prod(grid)
    if (tile := _TENSILE.search(name)) and not _STREAM_K.search(name):
        split = _SPLIT_K.search(name) if "UserArgs" not in name and m is not None else None
        for each in _tile_counts(int(tile[1]), int(tile[2]), layer, m):
            if count == each * max(int(split[1]), 1) if split else count % each == 0:
                return True
        return False
    if (tile := _CUBLAS.match(name)) and "splitK" not in name and m is not None:
        cluster = int(tile[3]) * int(tile[4])
        rounded = _tile_counts(int(tile[1]), int(tile[2]), layer, m, cluster)
        return count <= max(rounded)
    return True


def _tile_counts(a: int, b: int, layer: Linear, m: int | None, cluster: int = 1) -> list[int]:
    """Return how many tiles of ``a`` by ``b`` the output has, for either order; along N without ``m``."""
    sides = ((a, b), (b, a)) if a and b else ()
    return [
        _up(-(-layer.n // along_n), cluster) * (_up(-(-m // along_m), cluster) if m else 1)
        for along_n, along_m in sides
    ]


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def parts(dispatch: Dispatch, layer: Linear, m: int | None) -> int | None:
    """Return into how many partial sums a launch splits K, ``None`` where it does not or does not tell."""
    name, grid = short_name(dispatch.raw_name), workgroups(dispatch)
    if grid is None or m is None:
        return None
    tile = _TENSILE.search(name) if "GSU" in name else _CUBLAS.match(name) if "splitK" in name else None
    if tile is None or not int(tile[1]) or not int(tile[2]):
        return None
    count, tiles = math.prod(grid), _tile_counts(int(tile[1]), int(tile[2]), layer, m)[0]
    return count // tiles if count % tiles == 0 and count > tiles else None
