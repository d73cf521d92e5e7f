"""What tests of the HTTP side share: a server on loopback, stand-ins of other parts, raw requests."""

import asyncio
import contextlib

from making import make_context, running, until

from rocscope.collectors.gpu_device import Device
from rocscope.daemon.http_server import HttpServer
from rocscope.daemon.part import Health
from rocscope.daemon.settings import Settings
from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store
from rocscope.daemon.wall_clock import WallClock
from rocscope.daemon.windows import Answer
from rocscope.daemon.windows import Windows as RealWindows

TOKEN = "0123456789abcdef0123456789abcdef"
FAMILIES = 23  # as many as data/families.toml has
NAME = "MI100 <b>\x1b[31m"


class Standin:
    """A part that does nothing, well."""

    def health(self):
        return Health()


class Windows(RealWindows):
    """Takes requests for windows, and opens none."""

    def __init__(self, context):
        super().__init__(context)
        self.asked = []

    async def ask(self, request):
        self.asked.append(request)
        return Answer("w1")


class Telemetry(Standin):
    way = "a stand-in"

    def __init__(self, count):
        names = [f"0000:{i:02x}:00.0" for i in range(count)]
        self.devices = [Device(b, f"uuid{i}", NAME, "gfx908") for i, b in enumerate(names)]


@contextlib.asynccontextmanager
async def serving(tmp_path, *, gpus=0, parts=None, **http):
    """Serve; give the context and the base address."""
    given = {"state": {"folder": tmp_path / "s"}, "http": {"listen": "127.0.0.1:0", **http}}
    settings = Settings.model_validate(given)
    with StateDir.claim(settings.state.folder) as folder:
        store = Store.open(folder, WallClock())
        try:
            context = make_context(settings, store=store)
            part = HttpServer(context)
            if gpus:
                context.parts = {"telemetry": Telemetry(gpus)}
            made = {name: kind(context) for name, kind in (parts or {}).items()}
            context.parts = {**context.parts, **made}
            async with running(part):
                await until(lambda: part.address, "it listens")
                yield context, part.url.rstrip("/")
        finally:
            store.close()


def write(context, group):
    return asyncio.wrap_future(context.store.write(group))


def token_file(tmp_path, mode=0o600, text=TOKEN):
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    return path


async def raw(port, data, *, wait_s=5.0, end=False):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    with contextlib.suppress(ConnectionError):
        await writer.drain()
        if end:
            writer.write_eof()
    answer = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(wait_s):
            while piece := await reader.read(65536):
                answer += piece
                if b"\r\n\r\n" in answer and not end:
                    break
    writer.close()
    return answer
