"""A decoder of Llama's form with 4-bit weights, whose step runs on the kernels of kernels.py."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import kernels
import torch

PAGE = 16  # tokens of a block of the cache
SEGMENTS = 16  # of a context, with split attention
COLUMNS = 256  # of a workgroup of the coalesced product
ENOUGH = 768  # workgroups that fill a large GPU
LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class Sizes:
    """Sizes of the model, from its config.json."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    epsilon: float
    rope_theta: float
    group: int

    @classmethod
    def load(cls, path: Path, layers: int | None) -> "Sizes":
        """Read ``path``; ``layers`` replaces its number of layers."""
        data = json.loads(path.read_text(encoding="utf-8"))
        sizes = cls(
            hidden=data["hidden_size"],
            intermediate=data["intermediate_size"],
            layers=layers or data["num_hidden_layers"],
            heads=data["num_attention_heads"],
            kv_heads=data["num_key_value_heads"],
            head_dim=data["head_dim"],
            vocabulary=data["vocab_size"],
            epsilon=data["rms_norm_eps"],
            rope_theta=data["rope_theta"],
            group=data["quantization_config"]["group_size"],
        )
        for k, n in sizes.products().values():
            if n % COLUMNS or k % sizes.group or sizes.group % 64:
                raise SystemExit(
                    f"{path}: a product of K={k}, N={n}: N must be a multiple of {COLUMNS}, K of the group "
                    "size, and that of 64"
                )
        return sizes

    def products(self) -> dict[str, tuple[int, int]]:
        """Return K and N of the products of a layer."""
        heads, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "qkv": (self.hidden, heads + 2 * kv),
            "o": (heads, self.hidden),
            "gate_up": (self.hidden, 2 * self.intermediate),
            "down": (self.intermediate, self.hidden),
        }


@dataclass
class Packed:
    """Weights of a product: words [K / 8, N], scales and zeros [K / group, N]."""

    k: int
    n: int
    words: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor

    @classmethod
    def random(cls, k: int, n: int, group: int, device: str) -> "Packed":
        """Make weights that keep the size of what they multiply: uniform nibbles have a deviation of 4.6."""
        words = torch.randint(-(2**31), 2**31 - 1, (k // 8, n), dtype=torch.int32, device=device)
        scales = (torch.rand(k // group, n, device=device) * 0.4 + 0.8) / (4.6 * math.sqrt(k))
        zeros = torch.randint(6, 10, (k // group, n), device=device)
        return cls(k, n, words, scales.half(), zeros.half())


def next_power_of_2(number: int) -> int:
    """Return the least power of two that is not below ``number``."""
    return 1 << (number - 1).bit_length()


class Decoder:
    """Random weights, a filled cache, and a step that generates a token for each sequence."""

    def __init__(
        self, sizes: Sizes, *, batch: int, context: int, room: int, variant: str, attention: str, device: str
    ) -> None:
        self.sizes, self.batch, self.context = sizes, batch, context
        self.variant, self.attention = variant, attention
        self.threads = 32 if device == "cpu" else torch.cuda.get_device_properties(0).warp_size
        half = {"dtype": torch.float16, "device": device}
        s = sizes
        self.embedding = torch.randn(s.vocabulary, s.hidden, **half)
        self.head = torch.randn(s.vocabulary, s.hidden, **half) / math.sqrt(s.hidden)
        self.layers = [
            {name: Packed.random(k, n, s.group, device) for name, (k, n) in s.products().items()}
            for _ in range(s.layers)
        ]
        self.norms = torch.rand(2 * s.layers + 1, s.hidden, **half) + 0.5
        pages = -(-(context + room) // PAGE)
        self.tables = torch.randperm(batch * pages, device=device).view(batch, pages).int()
        within = torch.arange(PAGE, device=device)
        self.slot_of = (self.tables.long()[:, :, None] * PAGE + within).view(batch, pages * PAGE)
        cache = (s.layers, batch * pages * PAGE, s.kv_heads * s.head_dim)
        self.keys, self.values = torch.randn(*cache, **half), torch.randn(*cache, **half)
        angles = torch.outer(
            torch.arange(context + room, dtype=torch.float32, device=device),
            s.rope_theta ** (-torch.arange(0, s.head_dim, 2, device=device) / s.head_dim),
        )
        self.cos_sin = torch.cat([angles.cos(), angles.sin()], dim=1).half()
        self.tokens = torch.randint(0, s.vocabulary, (batch, 1), device=device)
        self.positions = torch.full((batch, 1), context, device=device)
        parts = (batch, s.heads, SEGMENTS)
        self.sums = torch.empty(*parts, s.head_dim, dtype=torch.float32, device=device)
        self.totals, self.bests = (torch.empty(*parts, dtype=torch.float32, device=device) for _ in "tb")
        widest = max(n for _, n in s.products().values())
        self.partial = torch.zeros(widest, dtype=torch.float32, device=device)
        self.arrived = torch.zeros(widest // COLUMNS, dtype=torch.int32, device=device)
        self.normed = torch.empty(batch, s.hidden, **half)
        self.outs = {name: torch.empty(batch, n, **half) for name, (_, n) in s.products().items()}
        self.attended = torch.empty(batch, s.heads * s.head_dim, **half)
        self.gated = torch.empty(batch, s.intermediate, **half)

    def restart(self) -> None:
        """Go back to where generating began; what was written to the cache since is overwritten again."""
        self.positions.fill_(self.context)

    def warps(self, threads: int) -> int:
        """Return how many warps (wavefronts) have so many threads."""
        return max(1, threads // self.threads)

    def multiply(self, x: torch.Tensor, weights: Packed, out: torch.Tensor) -> None:
        """Launch the product: several rows on the matrix unit, one row by the chosen variant."""
        group, warps = self.sizes.group, self.warps(128)
        given = (x, weights.words, weights.scales, weights.zeros)
        if len(x) > 1:
            block = min(64, max(16, next_power_of_2(len(x))))
            grid = (weights.n // 64, -(-len(x) // block))
            kernels.gptq_w4a16_gemm_kernel[grid](
                *given,
                out,
                *(len(x), weights.n, weights.k),
                GROUP=group,
                BLOCK_M=block,
                BLOCK_N=64,
                BLOCK_K=64,
                num_warps=warps,
                num_stages=2,
            )
        elif self.variant == "strided":
            kernels.gptq_w4a16_gemv_strided_kernel[(weights.n,)](
                *given, out, weights.k, weights.n, GROUP=group, WORDS=128, num_warps=warps
            )
        else:
            columns, groups = weights.n // COLUMNS, weights.k // group
            shared = next(
                each
                for each in range(1, groups + 1)
                if groups % each == 0 and (columns * each >= ENOUGH or each == groups)
            )
            kernels.gptq_w4a16_gemv_kernel[(columns, shared)](
                *given,
                *(self.partial, self.arrived, out, weights.n, groups // shared),
                GROUP=group,
                COLUMNS=COLUMNS,
                num_warps=warps,
            )

    def attend(self, layer: int, qkv: torch.Tensor) -> None:
        """Rotate, write the cache, and attend to it."""
        s = self.sizes
        grid, keys, values = (self.batch,), self.keys[layer], self.values[layer]
        kernels.rotary_embedding_kernel[grid](
            self.positions,
            qkv,
            self.cos_sin,
            qkv.stride(0),
            HEADS=s.heads + s.kv_heads,
            BLOCK=next_power_of_2(s.heads + s.kv_heads),
            HALF=s.head_dim // 2,
            num_warps=self.warps(min(s.heads * s.head_dim // 2, 512)),
        )
        kernels.reshape_and_cache_kernel[grid](
            qkv,
            keys,
            values,
            self.slots,
            qkv.stride(0),
            FIRST=s.heads * s.head_dim,
            WIDTH=s.kv_heads * s.head_dim,
            BLOCK=next_power_of_2(s.kv_heads * s.head_dim),
            num_warps=self.warps(128),
        )
        scale = LOG2_E / math.sqrt(s.head_dim)  # weights are powers of two
        last = (scale, qkv.stride(0), self.tables.stride(0))
        chosen = {
            "GROUP": s.heads // s.kv_heads,
            "KV_HEADS": s.kv_heads,
            "WIDTH": s.head_dim,
            "PAGE": PAGE,
            "ROWS": max(16, next_power_of_2(s.heads // s.kv_heads)),
            "TILE": 64,
            "num_warps": self.warps(128),
            "num_stages": 2,
        }
        given = (qkv, keys, values, self.tables, self.positions)
        if self.attention == "plain":
            kernels.paged_attention_decode_kernel[(self.batch, s.kv_heads)](
                *given, self.attended, *last, **chosen
            )
            return
        parts = (self.sums, self.totals, self.bests)
        kernels.paged_attention_decode_split_kernel[(self.batch, s.kv_heads, SEGMENTS)](
            *given, *parts, *last, **chosen
        )
        kernels.paged_attention_decode_reduce_kernel[(self.batch, s.heads)](
            *parts, self.attended, SEGMENTS=SEGMENTS, WIDTH=s.head_dim, num_warps=self.warps(128)
        )

    def step(self, tap=lambda name, **tensors: None) -> None:
        """Generate a token for each sequence. ``tap`` is shown what goes into each part and comes out."""
        s, outs, normed = self.sizes, self.outs, self.normed
        block = {"BLOCK": next_power_of_2(s.hidden), "num_warps": self.warps(256)}
        self.slots = self.slot_of.gather(1, self.positions)
        residual = self.embedding.index_select(0, self.tokens.view(-1))
        kernels.rms_norm_kernel[(self.batch,)](residual, self.norms[0], normed, s.hidden, s.epsilon, **block)
        tap("norm", x=residual, weight=self.norms[0], out=normed)
        for layer, weights in enumerate(self.layers):
            self._product("qkv", normed, weights, tap)
            self.attend(layer, outs["qkv"])
            tap("attention", layer=layer, rotated=outs["qkv"], out=self.attended)
            self._product("o", self.attended, weights, tap)
            self._norm(outs["o"], residual, 2 * layer + 1, block, tap)
            self._product("gate_up", outs["o"], weights, tap)
            grid = (self.batch, -(-s.intermediate // 1024))
            kernels.silu_and_mul_kernel[grid](
                outs["gate_up"], self.gated, s.intermediate, BLOCK=1024, num_warps=self.warps(128)
            )
            tap("activation", x=outs["gate_up"], out=self.gated)
            self._product("down", self.gated, weights, tap)
            self._norm(outs["down"], residual, 2 * layer + 2, block, tap)
            normed = outs["down"]
        logits = torch.nn.functional.linear(normed, self.head)
        tap("head", x=normed, out=logits)
        torch.argmax(logits, dim=1, keepdim=True, out=self.tokens)
        tap("sample", logits=logits, out=self.tokens)
        self.positions += 1

    def _product(self, name, x, weights, tap) -> None:
        self.multiply(x, weights[name], self.outs[name])
        tap("product", x=x, weights=weights[name], out=self.outs[name])

    def _norm(self, x, residual, index, block, tap) -> None:
        tap("before", x=x, residual=residual)
        s, weight = self.sizes, self.norms[index]
        kernels.fused_add_rms_norm_kernel[(self.batch,)](x, residual, weight, s.hidden, s.epsilon, **block)
        tap("add_norm", weight=weight, out=x, residual=residual)


def device() -> str:
    """Return where to run: on the CPU only in Triton's interpreter, which shows that sums are right."""
    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "cpu"
    raise SystemExit("no GPU that torch can use; TRITON_INTERPRET=1 with --check tries the kernels without")
