"""PyTorch's checkpoint files, read without running what is in them.

A `.ckpt`, `.bin` or `.pt` is a zip of raw storages and a pickle that says how tensors lie in them. Unpickling calls
whatever the file names. Here the few opcodes that a dictionary of tensors needs are interpreted, and the only functions
are those below; every other name is refused.

**In**: a file of PyTorch 1.6 or later.
**Out**: views of the mapped file by tensor name; a storage's checksum is compared when `verify` is called.
**Not**: modules, optimizers, or the format before 1.6, which is no zip.
"""

import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from codegemma.errors import InputError

_STORAGES = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
    "ComplexFloatStorage": np.dtype(np.complex64),
}
_MAX_PICKLE_BYTES = 64 * 2**20
_LOCAL_HEADER_BYTES = 30
_ARCHIVED = "copy the file again; if it was made before PyTorch 1.6, open it with torch and save it again"


class _Storage(NamedTuple):
    """Bytes of the file, and what to compare them with."""

    data: np.ndarray
    checksum: int


class TensorFile(NamedTuple):
    """A mapped file: its tensors, and the storage that each lies in."""

    path: Path
    tensors: dict[str, np.ndarray]
    storages: dict[str, _Storage]

    def verify(self, name: str) -> None:
        """Compare the checksum of a tensor's storage, where the file has one.

        Raises:
            InputError: the bytes are not those that were written.
        """
        storage = self.storages[name]
        # PyTorch writes 0 where it was told to compute none.
        if storage.checksum and zlib.crc32(storage.data.data) != storage.checksum:
            raise InputError(f"{self.path}: the bytes of {name} are damaged (checksum); copy the file again")


class _RefusedError(ValueError):
    """The pickle asks for more than a dictionary of tensors needs."""


# What zipfile, pickletools, numpy and the interpreter below raise over damaged bytes.
_DAMAGE = (
    zipfile.BadZipFile, NotImplementedError, ValueError, KeyError, IndexError, TypeError, AttributeError,
    struct.error, OverflowError, MemoryError, RecursionError,
)  # fmt: skip


def map_tensor_file(path: Path) -> TensorFile:
    """Map a checkpoint file; its dictionary may lie under `model_state_dict` or `state_dict`, as trainers save it.

    Raises:
        InputError: not PyTorch's zip, cut off, or it holds anything but tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = [info.filename for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            root = name.removesuffix("data.pkl")
            members = {info.filename.removeprefix(root): info for info in archive.infolist()}
            order = archive.read(members["byteorder"]) if "byteorder" in members else b"little"
            if members["data.pkl"].file_size > _MAX_PICKLE_BYTES:
                raise _RefusedError(f"its pickle has {members['data.pkl'].file_size:,} bytes")
            pickled = archive.read(members["data.pkl"])
        if order != b"little":
            raise _RefusedError(f"it was written on a machine of byte order {order!r}")
        mapped = np.memmap(path, np.uint8, mode="r")
        found = _interpret(pickled, lambda key: _map_storage(mapped, members[f"data/{key}"]))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); name another file") from error
    except _DAMAGE as error:
        raise InputError(f"{path} is not a checkpoint of tensors alone ({error}); {_ARCHIVED}") from error
    state = found
    for key in ("model_state_dict", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    tensors = {k: v for k, v in state.items() if isinstance(v, _Tensor)} if isinstance(state, Mapping) else {}
    if not tensors:
        raise InputError(f"{path} holds no dictionary of tensors; wanted a state_dict that torch.save wrote")
    views = {str(name): tensor.view for name, tensor in tensors.items()}
    return TensorFile(path, views, {str(name): tensor.storage for name, tensor in tensors.items()})


class _Tensor(NamedTuple):
    view: np.ndarray
    storage: _Storage


class _TypedStorage(NamedTuple):
    storage: _Storage
    dtype: np.dtype[Any]


def _map_storage(mapped: np.ndarray, info: zipfile.ZipInfo) -> _Storage:
    if info.compress_type != zipfile.ZIP_STORED:
        raise _RefusedError(f"{info.filename} is compressed, which PyTorch never does")
    local = bytes(mapped[info.header_offset : info.header_offset + _LOCAL_HEADER_BYTES])
    name_bytes, extra_bytes = struct.unpack("<HH", local[26:30])
    start = info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
    data = mapped[start : start + info.file_size]
    if len(data) != info.file_size:
        raise _RefusedError(f"{info.filename} is cut off")
    return _Storage(data, info.CRC)


def _rebuild_tensor(storage: Any, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Tensor:
    """Make a view as `torch._utils._rebuild_tensor_v2` would, within the storage."""
    if not isinstance(storage, _TypedStorage):
        raise _RefusedError("a tensor has no storage")
    flat = storage.storage.data.view(storage.dtype)
    if not all(type(n) is int and n >= 0 for n in (offset, *shape, *stride)) or len(shape) != len(stride):
        raise _RefusedError("a tensor's shape or stride is no list of whole numbers")
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    if 0 not in shape and last >= len(flat):
        raise _RefusedError(f"a tensor of shape {list(shape)} reaches beyond its storage")
    steps = tuple(step * storage.dtype.itemsize for step in stride)
    view = np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)
    return _Tensor(view, storage.storage)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _make_dict(*items: Any) -> dict[Any, Any]:
    if items:
        raise _RefusedError("a dictionary is not built item by item")
    return {}


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _make_dict,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
}
_GLOBALS: dict[str, Any] = _FUNCTIONS | {f"torch {name}": dtype for name, dtype in _STORAGES.items()}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"})
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _interpret(pickled: bytes, find_storage: Callable[[str], _Storage]) -> Any:
    """Run a pickle's opcodes, those of a dictionary of tensors and no other."""
    machine = _Machine(find_storage)
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.step(opcode.name, argument)
    raise _RefusedError("its pickle has no end")


class _Machine:
    """The stack and the memo of a pickle under interpretation."""

    def __init__(self, find_storage: Callable[[str], _Storage]) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self._find_storage = find_storage

    def step(self, name: str, argument: Any) -> None:
        """Do one opcode."""
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name in _ACTS:
            _ACTS[name](self, argument)
        elif name != "PROTO":
            raise _RefusedError(f"it uses the pickle opcode {name}, which tensors do not need")

    def mark(self) -> None:
        """Begin a stack above this one."""
        self.outer.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[Any]:
        """Take what was pushed since the last mark."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def push_tuple(self) -> None:
        """Make a tuple of what was pushed since the last mark."""
        items = tuple(self.pop_to_mark())
        self.stack.append(items)

    def find_global(self, name: str) -> None:
        """Push one of our own functions or a type; nothing is imported."""
        if name not in _GLOBALS:
            raise _RefusedError(f"it names {name.replace(' ', '.')}, which is no tensor and might run code")
        self.stack.append(_GLOBALS[name])

    def find_storage(self) -> None:
        """Replace a storage's name by its bytes."""
        _, dtype, key, *_ = self.stack.pop()
        if type(key) is not str or not isinstance(dtype, np.dtype):
            raise _RefusedError("it refers to what is no storage")
        self.stack.append(_TypedStorage(self._find_storage(key), dtype))

    def call(self) -> None:
        """Call one of the functions above."""
        arguments = self.stack.pop()
        function = self.stack.pop()
        if not any(function is known for known in _FUNCTIONS.values()):
            raise _RefusedError("it calls what is no function")
        self.stack.append(function(*arguments))

    def set_items(self, items: list[Any]) -> None:
        """Fill the dictionary on top."""
        # Other keys are for no tensor, and hashing a tuple of tuples of the same tuple may take for ever.
        if type(self.stack[-1]) is not dict or not all(type(key) in (str, int) for key in items[::2]):
            raise _RefusedError("it sets items of what is no dictionary of names")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def append(self, items: list[Any]) -> None:
        """Fill the list on top."""
        if type(self.stack[-1]) is not list:
            raise _RefusedError("it appends to what is no list")
        self.stack[-1].extend(items)

    def pass_over_attributes(self) -> None:
        """Drop what would become attributes: a state_dict carries the versions of its modules there."""
        self.stack.pop()
        if type(self.stack[-1]) is not dict:
            raise _RefusedError("it sets attributes of what is no dictionary")


_ACTS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": lambda machine, _: machine.mark(),
    "TUPLE": lambda machine, _: machine.push_tuple(),
    "GLOBAL": lambda machine, name: machine.find_global(name),
    "BINPERSID": lambda machine, _: machine.find_storage(),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.pass_over_attributes(),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "BINPUT": lambda machine, key: machine.memo.__setitem__(key, machine.stack[-1]),
    "LONG_BINPUT": lambda machine, key: machine.memo.__setitem__(key, machine.stack[-1]),
    "BINGET": lambda machine, key: machine.stack.append(machine.memo[key]),
    "LONG_BINGET": lambda machine, key: machine.stack.append(machine.memo[key]),
}
