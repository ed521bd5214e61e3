"""Pickles read as data: their opcodes are followed, and nothing that they name is imported or called.

`torch.save` writes pickles, and beside the weights people keep options, numpy scalars and objects of their own in them.
Here every name is only a name. What a pickle would call is written down as an `Inert` value; the few constructors of
tensors become descriptions of where the numbers lie. A hostile file therefore does nothing, and an honest one is read.
"""

from __future__ import annotations

import io
import mmap
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LIMIT = 5_000_000
"""Opcodes of a pickle at most; a checkpoint of a large network has some 100,000."""


class Malformed(ValueError):
    """A pickle, or what is around it, that breaks its own format."""


class Name(NamedTuple):
    """A class or function that a pickle names, by module and name."""

    dotted: str


@dataclass(eq=False)
class Inert:
    """A value of any class: what it would have been made from. A dictionary is one, too, for keys may be anything."""

    name: str
    args: tuple[Any, ...] = ()
    items: list[tuple[Any, Any]] = field(default_factory=list)
    elements: list[Any] = field(default_factory=list)
    state: Any = None


@dataclass(eq=False, frozen=True)
class Strided:
    """A tensor, by where its numbers lie: an offset and strides in elements of a storage."""

    storage: Any
    offset: Any
    size: Any
    stride: Any
    dtype: str | None = None


@dataclass(eq=False)
class _Mark:
    """Where the arguments of an opcode begin."""


def read(stream: io.BytesIO | mmap.mmap, persistent: Callable[[Any], Any], load_bytes: Callable[[bytes], Any]) -> Any:
    """The value of the pickle at the current place of `stream`, which is left behind its last opcode.

    Parameters
    ----------
    stream : BytesIO or mmap
        With the pickle. Either gives no more bytes than there are, whatever length the pickle says.
    persistent : callable
        What stands for a persistent id: of storages, where their numbers are.
    load_bytes : callable
        The storage in a pickle within the pickle.

    Raises
    ------
    Malformed
        If it is not a whole pickle, or longer than `LIMIT`.
    """
    machine = _Machine(persistent, load_bytes)
    file: Any = stream  # mmap has what genops uses of a file
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > LIMIT:
                raise Malformed(f"it has more than {LIMIT:,} opcodes")
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except Malformed:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, struct.error) as error:
        raise Malformed(f"its pickle breaks off or has no meaning: {str(error) or type(error).__name__}") from error


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self, persistent: Callable[[Any], Any], load_bytes: Callable[[bytes], Any]) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.persistent = persistent
        self.load_bytes = load_bytes

    def step(self, name: str, argument: Any) -> None:
        """Do what one opcode says."""
        stack = self.stack
        if name in VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name not in ("PROTO", "FRAME", "STOP"):
            getattr(self, f"_{name.lower()}")(argument)

    def _take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise Malformed("its pickle takes more values than it has")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _to_mark(self) -> list[Any]:
        """Everything above the last mark, which goes, too."""
        places = (place for place in range(len(self.stack) - 1, -1, -1) if isinstance(self.stack[place], _Mark))
        if (place := next(places, None)) is None:
            raise Malformed("its pickle goes back to a mark that it has not")
        return self._take(len(self.stack) - place)[1:]

    def _mark(self, _: Any) -> None:
        self.stack.append(_Mark())

    def _pop(self, _: Any) -> None:
        self._take(1)

    def _pop_mark(self, _: Any) -> None:
        self._to_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._to_mark()))

    def _tuple1(self, _: Any) -> None:
        self.stack.append(tuple(self._take(1)))

    def _tuple2(self, _: Any) -> None:
        self.stack.append(tuple(self._take(2)))

    def _tuple3(self, _: Any) -> None:
        self.stack.append(tuple(self._take(3)))

    def _list(self, _: Any) -> None:
        self.stack.append(self._to_mark())

    def _frozenset(self, _: Any) -> None:
        self.stack.append(Inert("builtins.frozenset", elements=self._to_mark()))

    def _dict(self, _: Any) -> None:
        self.stack.append(Inert("dict", items=_pairs(self._to_mark())))

    def _append(self, _: Any) -> None:
        _elements(self.stack[-2]).extend(self._take(1))

    def _appends(self, _: Any) -> None:
        added = self._to_mark()
        _elements(self.stack[-1]).extend(added)

    _additems = _appends

    def _setitem(self, _: Any) -> None:
        added = self._take(2)
        self.stack[-1].items.extend(_pairs(added))

    def _setitems(self, _: Any) -> None:
        added = self._to_mark()
        self.stack[-1].items.extend(_pairs(added))

    def _global(self, argument: str) -> None:
        self.stack.append(Name(argument.replace(" ", ".", 1)))

    def _stack_global(self, _: Any) -> None:
        module, name = self._take(2)
        self.stack.append(Name(f"{module}.{name}"))

    def _ext1(self, argument: int) -> None:
        self.stack.append(Name(f"extension.{argument}"))

    _ext2 = _ext4 = _ext1

    def _reduce(self, _: Any) -> None:
        called, args = self._take(2)
        self.stack.append(self._made(called, args if isinstance(args, tuple) else (args,)))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        called, args, _named = self._take(3)
        self.stack.append(Inert(_called(called), tuple(args)))

    def _obj(self, _: Any) -> None:
        called, *args = self._to_mark()
        self.stack.append(Inert(_called(called), tuple(args)))

    def _inst(self, argument: str) -> None:
        self.stack.append(Inert(argument.replace(" ", ".", 1), tuple(self._to_mark())))

    def _build(self, _: Any) -> None:
        (state,) = self._take(1)
        if isinstance(self.stack[-1], Inert):
            self.stack[-1].state = state

    def _persid(self, argument: Any) -> None:
        self.stack.append(self.persistent(argument))

    def _binpersid(self, _: Any) -> None:
        self.stack.append(self.persistent(*self._take(1)))

    def _made(self, called: Any, args: tuple[Any, ...]) -> Any:
        """A description of a tensor where `called` would make one; of anything else, what it would be made from."""
        name = _called(called)
        if name in TENSORS:
            storage, offset, size, stride, *rest = args
            dtype = _called(rest[2]) if name.endswith("_v3") else None
            return Strided(storage, offset, size, stride, dtype)
        if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            return args[0]
        if name == "torch._tensor._rebuild_from_type_v2":
            return self._made(args[0], args[2])
        if name == "torch.storage._load_from_bytes" and isinstance(args[0], bytes):
            return self.load_bytes(args[0])
        if name == "_codecs.encode" and isinstance(args[0], str) and args[1:] in (("latin1",), ("latin-1",)):
            return args[0].encode("latin-1")  # how Python 2's protocol holds bytes
        return Inert(name, args)


VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": lambda: Inert("dict"),
    "EMPTY_SET": lambda: Inert("builtins.set"),
}
TENSORS = {f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")}


def _called(value: Any) -> str:
    return value.dotted if isinstance(value, Name) else value.name if isinstance(value, Inert) else "something unnamed"


def _elements(value: Any) -> list[Any]:
    return value if isinstance(value, list) else value.elements


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(values[::2], values[1::2], strict=True))
