"""What each part of a step should give, in plain torch and 32 bit, from the inputs that the part had."""

import math

import torch
from model import PAGE, Decoder, Packed

TOLERANCES = {  # root mean square of the difference over that of the expected
    "norm": 2e-3,
    "rotation": 2e-3,
    "cache": 0.0,
    "product": 2e-3,
    "attention": 2e-3,
    "residual": 1e-3,
    "add_norm": 2e-3,
    "activation": 2e-3,
    "head": 5e-3,
    "sample": 0.0,
}
SEVERAL_ROWS = 1e-2  # products of several rows round the weights to 16 bit


class Check:
    """A ``tap`` for ``Decoder.step`` that keeps the largest error of each kind of part."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.errors: dict[str, float] = {}
        self.qkv = self.x = self.residual = torch.empty(0)

    def __call__(self, name: str, **given) -> None:
        """Hold a part against torch."""
        getattr(self, f"_{name}")(**given)

    def failed(self) -> list[str]:
        """Say which parts are further off than they may."""
        allowed = dict(TOLERANCES)
        if self.decoder.batch > 1:
            allowed["product"] = SEVERAL_ROWS
        missing = [f"{name} was not checked" for name in allowed if name not in self.errors]
        return missing + [
            f"{name} is off by {error:.2g} of its size, {allowed[name]:g} allowed"
            for name, error in self.errors.items()
            if not error <= allowed[name]
        ]

    def _compare(self, name: str, found: torch.Tensor, expected: torch.Tensor) -> None:
        off = (found.float() - expected.float()).square().mean().sqrt()
        error = float(off / expected.float().square().mean().sqrt())
        worst = self.errors.get(name, 0.0)
        self.errors[name] = max(worst, error) if math.isfinite(error) else math.inf

    def _norm(self, x, weight, out) -> None:
        self._compare("norm", out, self._normed(x.float(), weight))

    def _normed(self, x, weight) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + self.decoder.sizes.epsilon) * weight.float()

    def _product(self, x, weights: Packed, out) -> None:
        self.qkv = out.clone()
        shifts = torch.arange(0, 32, 4, device=x.device)[None, :, None]
        nibbles = ((weights.words[:, None, :] >> shifts) & 15).view(weights.k, weights.n)
        group = self.decoder.sizes.group
        scales, zeros = (each.float().repeat_interleave(group, 0) for each in (weights.scales, weights.zeros))
        self._compare("product", out, x.float() @ ((nibbles - zeros) * scales))

    def _attention(self, layer, rotated, out) -> None:
        decoder, s = self.decoder, self.decoder.sizes
        batch, both = decoder.batch, s.heads + s.kv_heads
        given = self.qkv.float().view(batch, both + s.kv_heads, s.head_dim)
        row = decoder.cos_sin[decoder.positions.view(-1)].float()[:, None, :]
        cosine, sine = row.chunk(2, dim=2)
        first, second = given[:, :both].chunk(2, dim=2)
        expected = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=2)
        found = rotated.view(batch, both + s.kv_heads, s.head_dim)
        self._compare("rotation", found[:, :both], expected)
        caches = [each[layer].view(-1, s.kv_heads, s.head_dim) for each in (decoder.keys, decoder.values)]
        for sequence in range(batch):
            length = int(decoder.positions[sequence]) + 1
            pages = decoder.tables[sequence].long()[:, None] * PAGE + torch.arange(PAGE, device=out.device)
            keys, values = (each[pages.view(-1)[:length]].float() for each in caches)
            written = torch.cat([keys[-1], values[-1]])
            self._compare("cache", written, found[sequence, s.heads :])
            query = found[sequence, : s.heads].float().view(s.kv_heads, -1, s.head_dim)
            scores = torch.einsum("kgd,tkd->kgt", query, keys) / s.head_dim**0.5
            expected = torch.einsum("kgt,tkd->kgd", scores.softmax(2), values)
            self._compare("attention", out[sequence], expected.reshape(-1))

    def _before(self, x, residual) -> None:
        self.x, self.residual = x.float(), residual.float()

    def _add_norm(self, weight, out, residual) -> None:
        self._compare("residual", residual, self.x + self.residual)
        self._compare("add_norm", out, self._normed(self.x + self.residual, weight))

    def _activation(self, x, out) -> None:
        gate, up = x.float().chunk(2, dim=1)
        self._compare("activation", out, torch.nn.functional.silu(gate) * up)

    def _head(self, x, out) -> None:
        self._compare("head", out, x.float() @ self.decoder.head.float().T)

    def _sample(self, logits, out) -> None:
        self._compare("sample", logits.gather(1, out), logits.max(1, keepdim=True).values)
