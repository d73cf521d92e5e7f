"""Short names of kernels: what a person calls `void at::native::foo<4, bar>(int, bar) [clone .kd]`.

Profilers write a kernel's name in many ways: demangled by clang, by CUPTI or by Nsight Compute, mangled
(Itanium), with the suffix of the code object's descriptor, cut off in the middle. ``short_name`` takes the
function's own identifier out of all of them in one pass and never fails: a name that it cannot read stays
as it is. Names come from recordings and are untrusted, hence no C++ demangler (they recurse in C) and no
regular expression with nested repeats.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 16_384
"""Characters of a name that are looked at; real ones reach 7,000."""

_SUFFIX: Final = re.compile(r"(?: ?\(\.kd\)|\.kd| ?\[clone [^\]]{0,80}\])$")
_PLAIN: Final = re.compile(r"[\w.$@-]+")
_COPY: Final = re.compile(r"(?:\[CUDA )?mem(?:cpy|set)\b", re.IGNORECASE)
_IDENTIFIER: Final = re.compile(r"[^\W\d][\w$]*")
_MANGLED: Final = re.compile(r"_{1,2}Z")
_NAMELESS: Final = ("(anonymous namespace)", "<unnamed>", "(anonymous)")
_OPENS: Final = {"(": ")", "[": "]", "{": "}", "<": ">"}
_LITERAL: Final = re.compile(r"L[a-z]n?[0-9a-f]{0,32}E")
_ENUM_VALUE: Final = re.compile(r"n?\d{1,20}E")
_DISCRIMINATOR: Final = re.compile(r"\d{0,6}_(?=[A-Z0-9])")
_DEEPEST: Final = 256


def clean(raw: str) -> str:
    """Return ``raw`` without the descriptor and clone suffixes, at most :data:`LONGEST` characters."""
    name = raw.strip()[:LONGEST]
    for _ in range(3):  # " [clone .foo] [clone .kd]"; more would be a hostile name
        found = _SUFFIX.search(name, max(0, len(name) - 100))
        if found is None or found.start() == 0:
            break
        name = name[: found.start()].rstrip()
    return name


def short_name(raw: str) -> str:
    """Return the identifier of the kernel that ``raw`` names, without namespace, arguments and return type.

    Names of the runtime (``__amd_rocclr_copyBuffer``), of Triton and Tensile and of copies
    (``Memcpy DtoD (Device -> Device)``) come back as they are, less the suffix.
    """
    name = clean(raw)
    if _MANGLED.match(name):
        return _from_mangled(name) or name
    if not name or name[0] == "<" or _PLAIN.fullmatch(name) or _COPY.match(name):
        return name
    return _from_demangled(name) or name


def _from_demangled(name: str) -> str:
    for nameless in _NAMELESS:
        name = name.replace(nameless, "")
    kept: list[str] = []  # characters outside all brackets, up to the parameter list
    open_brackets: list[str] = []
    for at, char in enumerate(name):
        if char in _OPENS:
            if char == "(" and not open_brackets and _ends_a_name(kept):
                break
            open_brackets.append(char)
        elif open_brackets:
            _close(open_brackets, char, name[at - 1])
        elif char not in ")]}>":
            kept.append(char)
    words = "".join(kept).replace(" ::", "::").split()
    found = _IDENTIFIER.findall(words[-1].rpartition("::")[2]) if words else []
    return found[-1] if found else ""


def _ends_a_name(kept: list[str]) -> bool:
    return bool(kept) and (kept[-1].isalnum() or kept[-1] in "_$")


def _close(open_brackets: list[str], char: str, before: str) -> None:
    """Pop what ``char`` closes; ``>`` closes only ``<``, the others close whatever ``<`` is left open."""
    if char == ">":
        if open_brackets[-1] == "<" and before != "-":  # else a comparison or an arrow
            open_brackets.pop()
    elif char in ")]}":
        while open_brackets and open_brackets[-1] == "<":
            open_brackets.pop()
        if open_brackets and _OPENS[open_brackets[-1]] == char:
            open_brackets.pop()


def _from_mangled(name: str) -> str:
    """Return the last identifier of the outermost nested name of an Itanium-mangled ``name``.

    Only what is needed of the grammar: identifiers are skipped by their length, bracketing letters counted
    up to the matching ``E``, literals read whole, since their digits would pass for lengths.
    """
    at = name.index("Z") + 1
    nested = name.startswith("N", at)
    at += nested
    found = ""
    while at < len(name):
        char = name[at]
        if char.isdigit():
            identifier, at = _identifier(name, at)
            if not identifier:
                return ""
            if not identifier.startswith("_GLOBAL__N"):
                found = identifier
            if not nested and not name.startswith("I", at):
                return found
        elif char == "I":
            if not nested:
                return found
            at = _after_brackets(name, at)
        elif char == "S":
            at = _after_substitution(name, at)
        elif char in "KVrROL":  # qualifiers of a member function, internal linkage
            at += 1
        else:  # the E that ends the name, or what kernels are not called (operators, constructors)
            return found
    return found


def _identifier(name: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(name) and end < at + 5 and name[end].isdigit():
        end += 1
    after = end + int(name[at:end])
    return name[end:after], after


def _after_substitution(name: str, at: int) -> int:
    if name[at + 1 : at + 2].islower():  # St, Sa, Ss…
        return at + 2
    end = name.find("_", at, at + 12)
    return len(name) if end < 0 else end + 1


def _after_brackets(name: str, at: int) -> int:
    """Return the place after the ``E`` that closes the bracket at ``at``, or the end of a cut-off name."""
    depth = 0
    while at < len(name):
        char = name[at]
        if char.isdigit():
            at = _identifier(name, at)[1]
            continue
        if char in "ST":
            at = _after_substitution(name, at) if char == "S" or name[at + 1 : at + 2] not in "ny" else at + 2
            continue
        if char == "L" and (end := _after_literal(name, at)):
            at = end
            continue
        if char == "D":  # Dp, DF16b, Dv4_…
            at += 2 if name[at + 1 : at + 2] != "F" else 5
            continue
        if char == "U" and name[at + 1 : at + 2] in ("l", "t"):  # a lambda's parameters end with E
            depth += name[at + 1] == "l"
            at += 2
            continue
        depth += char in "INXJFZL"
        depth -= char == "E"
        at += 1
        if depth == 0:
            return at
        if depth > _DEEPEST:
            return len(name)
        if char == "E" and (end := _after_discriminator(name, at)):
            at = end
    return at


def _after_literal(name: str, at: int) -> int:
    """Return the place after a literal of a built-in type (``Li128E``), else 0."""
    found = _LITERAL.match(name, at)
    return found.end() if found else 0


def _after_discriminator(name: str, at: int) -> int:
    """Return the place after what may follow an ``E``: ``0_`` of a lambda, ``3E`` of an enum's value."""
    found = _DISCRIMINATOR.match(name, at)
    if found:
        return found.end()
    value = _ENUM_VALUE.match(name, at)
    return value.end() - 1 if value else 0
