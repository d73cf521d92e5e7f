"""Products of GGUF weights with few vectors, whose names tell the packing: FLOPs a byte at most.

Every weight is read at least once and multiplies each vector once: ``16 * vectors / bits`` FLOPs a byte at
most, whatever the layer's size. llama.cpp (ggml-cuda/mmvq.cu) has the type's number and the vectors in the
template, ``mul_mat_vec_q<(ggml_type)12, 1, ..>``, and workgroups along y and z only where one matrix serves
several channels, which are left out. vLLM (csrc/quantization/gguf/mmvq.cuh) names the block,
``mul_mat_vec_q<__half, 32, 4, block_q4_0, ..>``, with a workgroup along y a vector.

Bits of a weight are those of the blocks of ggml-common.h, scales included. The integer dot products are held
against no unit of their own, as few tables of GPUs tell it: the lowest peak decides.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import counted, workgroups

_NUMBERED: Final = re.compile(r"\bmul_mat_vec_q<\(ggml_type\)(\d{1,2}), (\d), ")
_NAMED: Final = re.compile(r"\bmul_mat_vec_q<[\w:]{1,40}, \d{1,3}, \d{1,2}, block_(\w{3,8}), ")
_BLOCKS: Final = {  # number of the type: name, bytes of a block, weights in it
    2: ("q4_0", 18, 32),
    3: ("q4_1", 20, 32),
    6: ("q5_0", 22, 32),
    7: ("q5_1", 24, 32),
    8: ("q8_0", 34, 32),
    10: ("q2_K", 84, 256),
    11: ("q3_K", 110, 256),
    12: ("q4_K", 144, 256),
    13: ("q5_K", 176, 256),
    14: ("q6_K", 210, 256),
}
_BY_NAME: Final = {name: number for number, (name, _, _) in _BLOCKS.items()}


class UnsizedGgufModel:
    """The most FLOPs a byte that the product can do."""

    name = "unsized-gguf"
    help = "GGUF weights times few vectors: operations a byte by the packing in the kernel's name"
    families = ("gguf_gemm",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return the limit where packing and vectors are known, else ``None``."""
        grid = workgroups(dispatch)
        if grid is None or grid[2] != 1:
            return None
        if found := _NUMBERED.search(dispatch.raw_name):
            number, vectors = int(found[1]), int(found[2])
            return _limit(number, vectors) if grid[1] == 1 else None
        found = _NAMED.search(dispatch.raw_name)
        return _limit(_BY_NAME.get(found[1]), grid[1]) if found else None


def _limit(number: int | None, vectors: int) -> Estimate | None:
    if number not in _BLOCKS or not vectors:
        return None
    name, size, weights = _BLOCKS[number]
    return Estimate(
        intensity_limit=2.0 * vectors * weights / size,
        source=f"each {name} weight of {8 * size / weights:.4g} bits serves {counted(vectors, 'vector')}; "
        "the layer's size is not known",
    )


MODEL = UnsizedGgufModel()
