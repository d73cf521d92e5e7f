"""A server that answers /metrics as told: as vLLM does, or badly. Its figures are made up."""

import asyncio
import contextlib

BUCKETS = (0.01, 0.025, 0.05, 0.1)


def text(*, tokens=0, running=2, started=1_700_000_000.0, observed=0):
    labels = 'engine="0",model_name="tiny"'
    lines = [
        f"process_start_time_seconds {started}",
        f"vllm:num_requests_running{{{labels}}} {float(running)}",
        f"vllm:num_requests_waiting{{{labels}}} 0.0",
        f"vllm:generation_tokens_total{{{labels}}} {float(tokens)}",
        f"vllm:prompt_tokens_total{{{labels}}} {float(tokens * 2)}",
        f'vllm:request_success_total{{finished_reason="length",{labels}}} {float(observed)}',
    ]
    for name in ("request_time_per_output_token_seconds", "request_queue_time_seconds"):
        lines += [f'vllm:{name}_bucket{{le="{le}",{labels}}} {float(observed if le >= 0.05 else 0)}'
                  for le in BUCKETS]  # fmt: skip
        lines += [
            f'vllm:{name}_bucket{{le="+Inf",{labels}}} {float(observed)}',
            f"vllm:{name}_count{{{labels}}} {float(observed)}",
            f"vllm:{name}_sum{{{labels}}} {observed * 0.03}",
        ]
    return "".join(f"{line}\n" for line in lines).encode()


class StandinServer:
    """``mode``: serve, hang, garbage, empty, huge, drip, reset, error, redirect, packed, endless-headers."""

    def __init__(self):
        self.mode, self.figures = "serve", {}
        self.asked = []  # request lines
        self.tokens = 0
        self.port = 0
        self._server = None
        self._open = set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self):
        await self.start()
        return self

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self):
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    async def __aexit__(self, *_):
        await self.stop()

    async def _serve(self, reader, writer):
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(head.decode())
                await self._answer(writer)
        self._open.discard(writer)
        writer.close()

    async def _answer(self, writer):
        mode = self.mode
        self.tokens += 10
        body = text(**{"tokens": self.tokens, "observed": self.tokens // 10, **self.figures})
        head = "HTTP/1.1 200 OK\r\n"
        if mode == "hang":
            await asyncio.sleep(3600)
        elif mode == "reset":
            writer.transport.abort()
            return
        elif mode == "error":
            head = "HTTP/1.1 500 Oops\r\n"
        elif mode == "redirect" and "GET /metrics/ " not in self.asked[-1]:
            head, body = "HTTP/1.1 307 Over there\r\nLocation: http://192.0.2.1/evil\r\n", b""
        elif mode == "garbage":
            body = bytes(range(256)) * 40
        elif mode == "empty":
            body = b""
        elif mode == "huge":
            body *= 4000
        elif mode == "packed":
            head += "Content-Encoding: gzip\r\n"
        elif mode == "no-http":
            head, body = "\x00\x01\x02", b"\xff" * 100
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1"))
        if mode == "drip":
            for each in body:
                writer.write(bytes([each]))
                await asyncio.sleep(0.05)
        else:
            writer.write(body)
        await writer.drain()
