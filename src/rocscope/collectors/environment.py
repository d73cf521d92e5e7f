"""What may be kept of a process's environment and command line: an allow-list; secrets never."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

_ALLOWED: Final = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "GPU_DEVICE_ORDINAL",
        "HIP_VISIBLE_DEVICES",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "NODE_RANK",
        "RANK",
        "ROCR_VISIBLE_DEVICES",
        "TENSOR_PARALLEL_SIZE",
        "TP",
        "TP_SIZE",
        "WORLD_SIZE",
    }
)
_TUNING: Final = (  # families of variables that change which kernels run, or how
    "AMD_LOG_",
    "GPU_MAX_HW_QUEUES",
    "HIPBLASLT_",
    "HSA_",
    "MIOPEN_",
    "NCCL_",
    "OMP_NUM_THREADS",
    "PYTORCH_ROCM_ARCH",
    "PYTORCH_TUNABLEOP_",
    "RCCL_",
    "ROCBLAS_",
    "ROCM_PATH",
    "TENSILE_",
    "TORCH_BLAS_",
    "TRITON_",
    "VLLM_",
)
_SECRET: Final = re.compile(r"token|key|secret|passw|credential|auth|cookie|dsn", re.IGNORECASE)
_HARMLESS: Final = re.compile(r"tokenizer|tokens\b|-token-ids?\b|key-value|keys?-per", re.IGNORECASE)
_SECRET_VALUE: Final = re.compile(r"\b(hf_|sk-|ghp_|glpat-|xox[bp]-|AKIA)\w{6,}|://[^/\s:@]+:[^/\s@]+@")
HIDDEN: Final = "<hidden>"


def allowed(environment: Mapping[str, object]) -> dict[str, str]:
    """Return the variables that may be kept: devices, ranks, tuning of vLLM and ROCm; nothing secret."""
    return {
        name: value
        for name, value in environment.items()
        if isinstance(value, str)
        and (name in _ALLOWED or name.startswith(_TUNING))
        and not _SECRET.search(name)
        and not _SECRET_VALUE.search(value)
    }


def command(arguments: Iterable[str]) -> tuple[str, ...]:
    """Return a command line with the values of secret options hidden."""
    shown: list[str] = []
    hide = False
    for argument in arguments:
        option, equals, _ = argument.partition("=")
        secret = bool(_SECRET.search(_HARMLESS.sub("", option))) and (option.startswith("-") or bool(equals))
        if hide and not argument.startswith("-"):
            shown.append(HIDDEN)
        elif secret and equals:
            shown.append(f"{option}={HIDDEN}")
        else:
            shown.append(HIDDEN if _SECRET_VALUE.search(argument) else argument)
        hide = secret and not equals
    return tuple(shown)
