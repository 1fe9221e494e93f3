"""A pickle read as a description: nothing in it is imported, called or built.

The pickle machine is played here over plain lists, dicts and numbers. The few names that PyTorch
writes for tensors stand for themselves; every other name, and every instruction that a state dict
does not need, is refused.
"""

import pickletools
from collections.abc import Callable
from io import BytesIO
from typing import Any

from saes.errors import UnsafeFormat
from saes.formats.files.containers import broken
from saes.formats.files.stand_ins import CALLS, NAMES, BadPickle, Name, View, storage

__all__ = ["View", "described"]

MAX_STEPS = 200_000
MAX_BITS = 64  # of a whole number
MAX_NAME = 200
OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
MARK = object()
Stack = list[Any]
Step = Callable[["_Machine", Any], None]


def described(file: str, pickle: bytes) -> Any:
    """What the pickle describes: dicts, lists, tuples, texts, numbers, None, Name and View."""
    machine = _Machine(file)
    try:
        stream = BytesIO(pickle)
        for _ in range(MAX_STEPS):
            opcode = OPCODES[stream.read(1)]
            if opcode.name == "STOP" and stream.tell() == len(pickle):
                return machine.result()
            machine.run(opcode, stream)
    # TypeError: a call with another number of arguments than torch writes.
    except (BadPickle, ValueError, IndexError, TypeError, KeyError) as error:
        raise broken(file, "has a damaged pickle, or one that PyTorch does not write") from error
    raise broken(file, f"has a pickle of more than {MAX_STEPS:,} steps")


class _Machine:
    def __init__(self, file: str) -> None:
        self.file = file
        self.stack: Stack = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        (found,) = self.stack
        return found

    def run(self, opcode: pickletools.OpcodeInfo, stream: BytesIO) -> None:
        if opcode.name == "GLOBAL":
            self.name(_line(stream), _line(stream))
        elif opcode.name in STEPS:
            STEPS[opcode.name](self, opcode.arg.reader(stream) if opcode.arg else None)
        else:
            raise self.unsafe(f"has the instruction {opcode.name}, which no list of weights needs")

    def unsafe(self, what: str) -> UnsafeFormat:
        return UnsafeFormat(f"`{self.file}` holds a Python pickle that {what}. It was not run.")

    def push(self, found: Any) -> None:
        self.stack.append(found)

    def pop(self) -> Any:
        found = self.stack.pop()
        if found is MARK:
            raise BadPickle
        return found

    def marked(self) -> Stack:
        """What lies above the last mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:
            at -= 1
            if at < 0:
                raise BadPickle
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise BadPickle
        text = f"{module[:MAX_NAME]}.{name[:MAX_NAME]}"
        if text not in NAMES:
            raise self.unsafe(f"asks for {_shown(text)}, which is no part of a list of weights")
        self.push(Name(text))

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not Name or type(arguments) is not tuple:
            raise BadPickle
        if function.text not in CALLS:
            raise self.unsafe(f"calls {function.text}")
        self.push(CALLS[function.text](*arguments))

    def build(self) -> None:
        """torch keeps a note of versions on a state dict; nothing else may be set on anything."""
        state, target = self.pop(), self.stack[-1]
        noted = type(state) is dict and state.keys() == {"_metadata"}
        if not noted or type(target) is not dict:
            raise self.unsafe("sets attributes")

    def set_items(self, items: Stack) -> None:
        """Keys are texts or numbers: a tuple of tuples of ... could take for ever to hash."""
        table, keys = self.stack[-1], items[::2]
        if type(table) is not dict or any(type(key) not in (str, int) for key in keys):
            raise BadPickle
        table.update(zip(keys, items[1::2], strict=True))

    def extend(self, items: Stack) -> None:
        if type(self.stack[-1]) is not list:
            raise BadPickle
        self.stack[-1].extend(items)

    def remember(self, place: int) -> None:
        if self.stack[-1] is MARK:
            raise BadPickle
        self.memo[place] = self.stack[-1]

    def top(self, count: int) -> Stack:
        """The last `count` things, in the order in which they were put."""
        return [self.pop() for _ in range(count)][::-1]


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:80])


def _line(stream: BytesIO) -> str:
    return stream.readline().removesuffix(b"\n").decode()


def _protocol(machine: _Machine, version: int) -> None:
    if version not in range(2, 6):
        raise BadPickle


def _whole_number(machine: _Machine, number: int) -> None:
    if number.bit_length() > MAX_BITS:
        raise BadPickle
    machine.push(number)


def _text(machine: _Machine, text: str) -> None:
    text.encode()  # a lone surrogate can be neither shown nor stored
    machine.push(text)


STEPS: dict[str, Step] = {
    "PROTO": _protocol,
    "FRAME": lambda machine, _: None,
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "LONG4"), _whole_number),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _text),
    "BINFLOAT": _Machine.push,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "MARK": lambda machine, _: machine.push(MARK),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.marked())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.top(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.top(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.top(3))),
    "APPEND": lambda machine, _: machine.extend(machine.top(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.marked()),
    "SETITEM": lambda machine, _: machine.set_items(machine.top(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.marked()),
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "BINGET": lambda machine, place: machine.push(machine.memo[place]),
    "LONG_BINGET": lambda machine, place: machine.push(machine.memo[place]),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.top(2)),
    "BINPERSID": lambda machine, _: machine.push(storage(machine.pop())),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}
