"""The control socket: commands of operators, who are told apart by the kernel's word for who they are."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import logging
import math
import os
import pwd
import socket
import stat
import struct
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic import ValidationError

from rocscope.daemon import views
from rocscope.daemon.control_protocol import (
    MAX_BYTES,
    QUESTIONS,
    AskPause,
    AskReload,
    AskResume,
    AskStatus,
    AskWindow,
    Question,
    Reply,
)
from rocscope.daemon.part import Part
from rocscope.daemon.window_run import WindowRequest
from rocscope.errors import RocscopeError

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.settings import Settings
    from rocscope.daemon.windows import Windows

QUESTION_S: Final = 10.0  # for the whole question to come
MOST_CALLERS: Final = 8  # at a time
BACKLOG: Final = 16
MODE: Final = 0o660
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)


class Peer(NamedTuple):
    """Who is at the other end of a connection, as the kernel noted when it was made."""

    pid: int
    uid: int
    gid: int

    @property
    def name(self) -> str:
        """The user's name, else number."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"user {self.uid}"


class Control(Part):
    """Listens on the socket and answers one question a connection."""

    name = "control"
    sections = ("control",)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._callers = 0
        self._server: asyncio.Server | None = None
        self._stopping = asyncio.Event()

    @property
    def path(self) -> Path:
        """Where the socket lies."""
        return self.context.settings.control_socket

    @property
    def listening(self) -> bool:
        """Whether the socket is ours and answers."""
        return self._server is not None and self._server.is_serving()

    async def run(self) -> None:
        """Serve until stopped. Raises ``OSError`` where the socket cannot be made."""
        listening = _listen(self.path, self.context.settings)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=MAX_BYTES)
        async with self._server:
            await self._stopping.wait()

    async def stop(self) -> None:
        """Stop listening and take the socket away."""
        self._stopping.set()
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                self.path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._callers += 1
        try:
            try:
                reply = await self._replied(reader, writer)
            except RocscopeError as error:
                reply = _no(error.message, error.hint)
            writer.write(reply.model_dump_json().encode() + b"\n")
            async with asyncio.timeout(QUESTION_S):
                await writer.drain()
        except (ConnectionError, TimeoutError):
            pass  # who asked is gone, or does not read
        finally:
            self._callers -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, OSError):
                await writer.wait_closed()

    async def _replied(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Reply:
        peer = peer_of(writer.get_extra_info("socket"))
        try:  # read before anything is said: who hangs up on unread data has its answer thrown away
            async with asyncio.timeout(QUESTION_S):
                line = await reader.readuntil(b"\n")
        except TimeoutError:
            return _no(f"no question came within {QUESTION_S:.0f} s", "send one line of JSON")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return _no("no whole line came", f"send one line of JSON below {MAX_BYTES} bytes")
        group = self.context.settings.control.group
        if not may(peer, group):
            self.context.events.note("control", f"{peer.name} was refused", logging.WARNING)
            return _no(
                f"{peer.name} may not control the daemon", f"be root, its user, or in the group {group}"
            )
        if self._callers > MOST_CALLERS:
            return _no("too many callers at a time", "try again in a moment")
        try:
            question = QUESTIONS.validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return _no(f"{where}: {first['msg']}", "is the daemon of the same version?")
        return await self._answer(question, peer)

    async def _answer(self, question: Question, peer: Peer) -> Reply:
        """Do what is asked and note who asked; only to look is not worth a line."""
        if isinstance(question, AskStatus):
            return Reply(ok=True, result=views.status(self.context).model_dump(mode="json"))
        self.context.events.note("control", f"{question.command} by {peer.name}")
        if isinstance(question, AskReload):
            done = await self.context.reload()
            return Reply(ok=not done.refused, result=asdict(done), error=done.refused or None,
                         hint="the old settings hold" if done.refused else None)  # fmt: skip
        windows: Windows | None = self.context.part("windows")
        if windows is None:
            return _no("windows do not run now", "see `rocscope status`")
        if isinstance(question, AskWindow):
            return await self._window(windows, question, peer)
        if isinstance(question, AskPause):
            windows.pause(question.for_s if question.for_s is not None else math.inf)
        elif isinstance(question, AskResume):
            windows.resume()
        return Reply(ok=True)

    async def _window(self, windows: Windows, question: AskWindow, peer: Peer) -> Reply:
        if question.force and peer.uid != 0:
            return _no("only root may force a window", "ask without --force")
        answer = await windows.ask(
            WindowRequest(
                trigger="operator",
                reason=question.reason,
                profile=question.profile,
                engine=question.engine,
                window_s=question.window_s,
                force=question.force,
            )
        )
        if answer.id is None:
            wait = f"ask again in {answer.retry_s:.0f} s" if answer.retry_s else "see `rocscope status`"
            return Reply(ok=False, result=asdict(answer), error=f"refused: {answer.refusal}", hint=wait)
        return Reply(ok=True, result=asdict(answer))


def _no(error: str, hint: str) -> Reply:
    return Reply(ok=False, error=error, hint=hint)


def peer_of(connection: socket.socket) -> Peer:
    """Return who connected, by SO_PEERCRED."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(raw))


def may(peer: Peer, group: str) -> bool:
    """Tell whether a user may control the daemon: root, its own user, members of the group."""
    if peer.uid in (0, os.geteuid()):
        return True
    try:
        found = grp.getgrnam(group)
    except KeyError:
        return False
    return peer.gid == found.gr_gid or peer.name in found.gr_mem


def _listen(path: Path, settings: Settings) -> socket.socket:
    """Make the socket, in place of one that a killed daemon left: the state's lock says that it is ours."""
    _clear(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(made.fileno(), 0)  # of a socket not yet bound: it is made for nobody, whatever the umask
        made.bind(str(path))
        with contextlib.suppress(KeyError, PermissionError):  # without the group it is for its user alone
            os.chown(path, -1, grp.getgrnam(settings.control.group).gr_gid, follow_symlinks=False)
        path.chmod(MODE)
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def _clear(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "is there and no socket", str(path))
    path.unlink()


PART = Control
