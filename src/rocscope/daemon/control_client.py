"""Asking a running daemon, for the commands of an operator."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import Any, Final

from rocscope.daemon.control_protocol import MAX_ANSWER_BYTES, Question, Reply
from rocscope.errors import DaemonNotRunning, PermissionMissing, RocscopeError

ANSWER_S: Final = 30.0
_PIECE: Final = 65_536


class Refused(RocscopeError):
    """The daemon did not do what it was asked to."""


def ask(path: Path, question: Question, timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """Ask the daemon that listens at ``path``; return the result.

    Raises :class:`DaemonNotRunning`, :class:`PermissionMissing`, and :class:`Refused` with its reason.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            with contextlib.suppress(BrokenPipeError):  # it has answered already, and hung up
                connection.sendall(question.model_dump_json().encode() + b"\n")
            reply = Reply.model_validate_json(_line(connection))
    except PermissionError as error:
        raise PermissionMissing(f"{path}: {error.strerror}", "be root or in the daemon's group") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise DaemonNotRunning(
            f"no daemon listens at {path}", "start it with `rocscope daemon`, or name its folder with --state"
        ) from error
    except TimeoutError as error:
        raise DaemonNotRunning(f"the daemon did not answer within {timeout_s:g} s", "see its log") from error
    except (OSError, ValueError) as error:
        raise DaemonNotRunning(f"{path}: {error}", "is it rocscope's daemon, of the same version?") from error
    if not reply.ok:
        raise Refused(reply.error or "refused", reply.hint or "")
    return reply.result


def _line(connection: socket.socket) -> bytes:
    received = bytearray()
    while b"\n" not in received:
        piece = connection.recv(_PIECE)
        if not piece:
            break
        received += piece
        if len(received) > MAX_ANSWER_BYTES:
            raise ValueError("its answer is too long")
    if not received:
        raise ValueError("it closed the connection without an answer")
    return bytes(received)


def as_json(result: dict[str, Any]) -> str:
    """Write a result for machines."""
    return json.dumps(result, indent=1)
