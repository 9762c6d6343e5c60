"""Two processes that call each other's functions over a pair of pipes, one line a message.

The tests' process and the program's process each hold one `Peer`. Every object that is no plain
data stays where it was made; the other side holds a `Remote` that asks for it. While a side waits
for an answer it answers what it is asked, so functions can be handed over as arguments.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from ttscale.sandbox._values import TYPES, Encoded, decode, encode

MAX_LINE = 16 * 1024 * 1024
_BETWEEN = (
    "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "floordiv", "mod", "matmul", "and",
    "or", "xor",
)  # fmt: skip


class Lost(Exception):
    """The other process has ended, or does not speak as it should."""


class Failed(Exception):
    """The other process raised what has no counterpart here."""


class Remote:
    """An object of the other process.

    It is called, and its attributes and items read and set, over there. It equals nothing but
    another object of that process that says so: plain data it never equals, whatever it claims.
    """

    __slots__ = ("_peer", "_ref")
    _peer: Peer
    _ref: int

    def __init__(self, peer: Peer, ref: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_ref", ref)

    def __call__(self, *args: object, **named: object) -> object:
        return self._peer.call(self._ref, args, named)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name not in ("__name__", "__doc__"):
            raise AttributeError(name)
        return self._peer.ask("get", self._ref, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._peer.ask("set", self._ref, name, value)

    def __getitem__(self, key: object) -> object:
        return self._peer.ask("item", self._ref, key)

    def __setitem__(self, key: object, value: object) -> None:
        self._peer.ask("put", self._ref, key, value)

    def __len__(self) -> int:
        return int(str(self._peer.ask("len", self._ref)))

    def __bool__(self) -> bool:
        return self._peer.ask("bool", self._ref) is True

    def __str__(self) -> str:
        return str(self._peer.ask("str", self._ref))

    def __repr__(self) -> str:
        return str(self._peer.ask("repr", self._ref))

    def __iter__(self) -> Iterator[object]:
        cursor = self._peer.ask("iter", self._ref)
        while True:
            found = cursor._peer.ask("next", cursor._ref) if isinstance(cursor, Remote) else ()
            if not isinstance(found, tuple) or not found:
                return
            yield found[0]

    def __next__(self) -> object:
        found = self._peer.ask("next", self._ref)
        if not isinstance(found, tuple) or not found:
            raise StopIteration
        return found[0]

    def __instancecheck__(self, other: object) -> bool:
        return isinstance(other, Remote) and self._peer.ask("isa", self._ref, other) is True

    def __hash__(self) -> int:
        return hash(self._ref)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and (
            self._ref == other._ref or self._peer.ask("eq", self._ref, other) is True
        )


def _between(name: str) -> Callable[[Remote, object], object]:
    """An operator between two objects of the other process."""

    def apply(self: Remote, other: object) -> object:
        if not isinstance(other, Remote):
            return NotImplemented
        return self._peer.ask("between", self._ref, name, other)

    return apply


for _name in _BETWEEN:
    setattr(Remote, f"__{_name}__", _between(_name))


class Peer:
    """One end.

    Args:
        reader: Where messages come from.
        writer: Where messages go.
        open_objects: Whether the other side may reach into objects of this side. The tests' end
            is closed: what it hands over can be called, and nothing else.
    """

    def __init__(self, reader: BinaryIO, writer: BinaryIO, *, open_objects: bool) -> None:
        self._reader, self._writer, self._open = reader, writer, open_objects
        self._objects: list[object] = []
        self.errors: dict[str, type[Exception]] = {}

    def call(self, ref: int, args: tuple[object, ...], named: Mapping[str, object]) -> object:
        """Call an object of the other side; lists, sets and dicts come back as it left them."""
        answer = self._request("call", [ref, list(args), dict(named)])
        result, after = answer if isinstance(answer, tuple) and len(answer) == 2 else (None, None)
        if not isinstance(after, list) or len(after) != len(args):
            raise Lost("the program answers out of turn")
        for mine, theirs in zip(args, after, strict=True):
            _refill(mine, theirs)
        return result

    def ask(self, verb: str, ref: int, *rest: object) -> object:
        """Ask for something about an object of the other side."""
        return self._request(verb, [ref, *rest])

    def tell(self, word: str, value: object) -> None:
        """Send a message that expects no answer."""
        self._send([word, encode(value, self._refer)])

    def hear(self) -> tuple[str, object]:
        """The word and the value of the next message."""
        message = self._receive()
        return str(message[0]), decode(message[1], self._resolve)

    def serve(self) -> None:
        """Answer until the other side is gone."""
        while True:
            self._answer(self._receive())

    def _request(self, verb: str, args: list[object]) -> object:
        self._send([verb, encode(args, self._refer)])
        while True:
            message = self._receive()
            if message[0] == "ok":
                return decode(message[1], self._resolve)
            if message[0] == "error":
                raise self._error(decode(message[1], self._resolve))
            self._answer(message)

    def _answer(self, message: list[Encoded]) -> None:
        try:
            args = decode(message[1], self._resolve)
            if not isinstance(args, list):
                raise Lost("a request without arguments")
            result = self._do(str(message[0]), args)
            reply: list[Encoded] = ["ok", encode(result, self._refer)]
        except Lost:
            raise
        except BaseException as error:  # noqa: BLE001 - foreign code; told to the other side
            reply = ["error", encode(_told(error), self._refer)]
        self._send(reply)

    def _do(self, verb: str, args: list[object]) -> object:
        """Do what the other side asks for."""
        mine, rest = self._objects[int(str(args[0]))], args[1:]
        if verb == "call" and callable(mine):
            given, named = rest
            if not isinstance(given, list) or not isinstance(named, dict):
                raise Lost("a call without arguments")
            return mine(*given, **named), given
        if not self._open:
            raise TypeError(f"{verb!r} is not possible with an object of the tests")
        return _VERBS[verb](mine, *rest)

    def _refer(self, value: object) -> Encoded:
        if isinstance(value, Remote):
            return ["y", int(value._ref)]
        if not self._open and not callable(value):
            raise TypeError(f"a {type(value).__name__} cannot be handed to the program")
        self._objects.append(value)
        return ["x", len(self._objects) - 1]

    def _resolve(self, tag: str, ref: int) -> object:
        return Remote(self, ref) if tag == "x" else self._objects[ref]

    def _error(self, told: object) -> Exception:
        """The exception here that is closest to the one over there."""
        if not isinstance(told, tuple) or len(told) != 2:
            return Lost("an error without a name")
        names, text = told
        for name in names:
            found = self.errors.get(name) or TYPES.get(name)
            if isinstance(found, type) and issubclass(found, Exception):
                try:
                    return found(text)
                except TypeError:  # UnicodeError and its like want more than a text
                    continue
        return Failed(f"{names[0] if names else 'error'}: {text}")

    def _send(self, message: list[Encoded]) -> None:
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            self._writer.flush()
        except OSError:
            raise Lost("the program has ended") from None

    def _receive(self) -> list[Encoded]:
        line = self._reader.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            raise Lost("the program has ended" if len(line) < MAX_LINE else "too long an answer")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise Lost("the program answers out of turn") from None
        if not isinstance(message, list) or len(message) != 2:
            raise Lost("the program answers out of turn")
        return message


def _refill(mine: object, theirs: object) -> None:
    """Make a container what the call has made of it."""
    if isinstance(mine, list) and isinstance(theirs, list):
        mine[:] = theirs
    if isinstance(mine, bytearray) and isinstance(theirs, bytearray):
        mine[:] = theirs
    if isinstance(mine, set) and isinstance(theirs, set):
        mine.clear()
        mine.update(theirs)
    if isinstance(mine, dict) and isinstance(theirs, dict):
        mine.clear()
        mine.update(theirs)


def _told(error: BaseException) -> tuple[list[str], str]:
    """Names of an exception's classes, and its text."""
    names = [found.__name__ for found in type(error).__mro__]
    text = error.args[0] if len(error.args) == 1 else error
    try:
        return names, str(text)
    except Exception:  # noqa: BLE001 - a foreign __str__
        return names, ""


def _next(iterator: Iterator[object]) -> tuple[object, ...]:
    for item in iterator:
        return (item,)
    return ()


_VERBS: dict[str, Callable[..., object]] = {
    "get": getattr,
    "set": setattr,
    "item": operator.getitem,
    "put": operator.setitem,
    "len": len,
    "bool": bool,
    "str": str,
    "repr": repr,
    "iter": iter,
    "next": _next,
    "isa": lambda kind, value: isinstance(value, kind),
    "eq": lambda a, b: bool(a == b),
    "between": lambda a, name, b: getattr(operator, f"__{name}__")(a, b),
}
