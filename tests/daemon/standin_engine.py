"""A stand-in for a vLLM server with its PyTorch profiler on: /metrics, /start_profile, /stop_profile.

As the real one does, it writes its trace when it is told to stop; the trace is one that was recorded.
"""

import asyncio
import contextlib
import shutil

from standin_server import text


class StandinEngine:
    """``slow_stop_s``: how long it takes to write; ``stuck``: it never answers a stop."""

    def __init__(self, traces, recording):
        self.traces, self.recording = traces, recording
        self.profiling, self.starts, self.stops = False, 0, 0
        self.slow_stop_s, self.stuck, self.refuse, self.leave_nothing = 0.0, False, False, False
        self.port, self._server, self._writers = 0, None, set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                code, body = await self._answer(head.split(" ")[1])
                writer.write(f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, path):
        if path == "/metrics":
            return 200, text(tokens=100)
        if path == "/start_profile":
            if self.refuse:
                return 404, b"no profiler"
            self.starts, self.profiling = self.starts + 1, True
            return 200, b""
        if path == "/stop_profile":
            while self.stuck:
                await asyncio.sleep(0.05)
            await asyncio.sleep(self.slow_stop_s)
            if self.profiling and not self.leave_nothing:
                name = f"rank0.{self.starts}.pt.trace.json.gz"
                await asyncio.to_thread(shutil.copyfile, self.recording, self.traces / name)
            self.stops, self.profiling = self.stops + 1, False
            return 200, b""
        return 404, b""
