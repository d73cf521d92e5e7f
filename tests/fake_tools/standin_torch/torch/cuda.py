# ruff: noqa: PLW0603  # as in torch

_queued, _initialised = [], False


def _lazy_call(callable, **more):
    if _initialised:
        callable()
    else:
        _queued.append(callable)


def init():
    global _initialised
    if _initialised:
        return
    for call in _queued:
        call()
    _initialised = True
