"""PyTorch's files are read as tensors and nothing else: no code of theirs runs, no damage of theirs goes unseen."""

import collections
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegemma.errors import InputError
from codegemma.model.formats.torch_file import map_tensor_file

torch = pytest.importorskip("torch")

KINDS = {
    torch.float32: np.int32, torch.float16: np.int16, torch.bfloat16: np.int16, torch.int64: np.int64,
    torch.int8: np.int8, torch.uint8: np.uint8,
}  # fmt: skip


class Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def zip_pickle(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickled)
        for key, content in (storages or {}).items():
            archive.writestr(f"model/data/{key}", content)
    return path


@settings(max_examples=50)
@given(
    shape=st.lists(st.integers(0, 5), max_size=3),
    kind=st.sampled_from(list(KINDS)),
    is_transposed=st.booleans(),
    offset=st.integers(0, 3),
)
def test_any_tensor_is_read_as_torch_reads_it(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], kind: Any, is_transposed: bool, offset: int
) -> None:
    path = tmp_path_factory.mktemp("torch") / "model.bin"
    flat = torch.randint(0, 100, (offset + int(np.prod(shape)),)).to(kind)
    tensor = flat[offset:].reshape(shape)
    tensor = tensor.permute(tuple(reversed(range(tensor.ndim)))) if is_transposed else tensor
    torch.save({"a": tensor, "b": flat}, path)
    file = map_tensor_file(path)
    found = file.tensors["a"]
    assert found.shape == tuple(tensor.shape)
    assert found.astype(np.float64).tolist() == tensor.double().tolist()
    assert file.tensors["b"].tobytes() == flat.view(torch.uint8).numpy().tobytes() if len(flat) else True
    file.verify("a")


def test_a_state_dict_is_found_under_what_trainers_call_it(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    for number, saved in enumerate(
        [
            model.state_dict(),
            {"model_state_dict": model.state_dict(), "step": 3},
            {"state_dict": dict(model.state_dict())},
        ]
    ):
        torch.save(saved, tmp_path / f"{number}.pt")
        file = map_tensor_file(tmp_path / f"{number}.pt")
        assert sorted(file.tensors) == ["bias", "weight"]
        np.testing.assert_array_equal(file.tensors["weight"], model.weight.detach().numpy())


def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"weight": torch.ones(2), "extra": Bomb(mark)}, tmp_path / "model.ckpt")
    with pytest.raises(InputError, match=r"names (posix|nt)\.system, which is no tensor and might run code"):
        map_tensor_file(tmp_path / "model.ckpt")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        zip_pickle(tmp_path / "other.ckpt", pickle.dumps({"weight": Bomb(mark)}, protocol))
        with pytest.raises(InputError, match="not a checkpoint of tensors alone"):
            map_tensor_file(tmp_path / "other.ckpt")
    assert not mark.exists()


@pytest.mark.parametrize(
    "saved",
    [torch.nn.Linear(2, 2), {"weight": np.ones(3)}, [torch.ones(2)], {}, {"a": 1}, {(1, 2): torch.ones(1)}, "text"],
)
def test_what_is_no_dictionary_of_tensors_is_refused(saved: Any, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "model.ckpt")
    with pytest.raises(InputError, match=r"model\.ckpt (is not a checkpoint of tensors alone|holds no dictionary)"):
        map_tensor_file(tmp_path / "model.ckpt")


def test_the_format_before_1_6_says_what_to_do(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"before PyTorch 1\.6, open it with torch and save it again"):
        map_tensor_file(tmp_path / "old.bin")


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"weight": torch.full((1000,), 3.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.find(np.full(1000, 3.0, np.float32).tobytes()) + 1234] ^= 4
    path.write_bytes(content)
    file = map_tensor_file(path)
    with pytest.raises(InputError, match=r"bytes of weight are damaged \(checksum\)"):
        file.verify("weight")


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"weight": torch.ones(3)}, tmp_path / "model.ckpt")
    finally:
        torch.serialization.set_crc32_options(before)
    file = map_tensor_file(tmp_path / "model.ckpt")
    file.verify("weight")
    assert file.tensors["weight"].tolist() == [1, 1, 1]


def make_reference(offset: int, shape: Any, stride: Any) -> bytes:
    """Pickle a tensor of four numbers that claims any offset, shape and stride."""
    buffer = io.BytesIO()

    class Writer(pickle._Pickler):
        def persistent_id(self, obj: object) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", 4) if obj is marker else None

    class Tensor:
        def __reduce__(self) -> Any:
            arguments: Any = (marker, offset, shape, stride, False, collections.OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments

    marker = object()
    Writer(buffer, protocol=2).dump({"weight": Tensor()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (0, (5,), (1,)), (1, (4,), (1,)), (0, (2, 2), (3, 1)), (-1, (2,), (1,)), (0, (-2,), (1,)), (0, (2,), (-1,)),
        (0, (2, 2), (1,)), (0, ("a",), (1,)), (0, (10**30,), (1,)), (2**70, (1,), (1,)), (0, (2.0,), (1,)),
    ],
)  # fmt: skip
def test_a_tensor_never_reaches_beyond_its_storage(offset: int, shape: Any, stride: Any, tmp_path: Path) -> None:
    path = zip_pickle(tmp_path / "model.ckpt", make_reference(offset, shape, stride), {"0": bytes(16)})
    with pytest.raises(InputError, match="not a checkpoint of tensors alone"):
        map_tensor_file(path)
    sound = zip_pickle(tmp_path / "sound.ckpt", make_reference(1, (3,), (1,)), {"0": bytes(16)})
    assert map_tensor_file(sound).tensors["weight"].tolist() == [0, 0, 0]


def test_tuples_of_tuples_of_the_same_tuple_take_no_time(tmp_path: Path) -> None:
    deep: Any = (1, 2)
    for _ in range(200):
        deep = (deep, deep)
    pickled = pickle.dumps(deep, 2)[2:-1]
    # As a key, which Python itself cannot make: hashing it would take for ever; and as a value.
    for item in (pickled + b"K\x01", b"X\x06\0\0\0weight" + pickled):
        body = b"\x80\x02}" + item + b"s."
        with pytest.raises(InputError):
            map_tensor_file(zip_pickle(tmp_path / "model.ckpt", body))
    reference = make_reference(0, "SHAPE", (1,)).replace(b"X\x05\0\0\0SHAPE", pickled)
    with pytest.raises(InputError):
        map_tensor_file(zip_pickle(tmp_path / "model.ckpt", reference, {"0": bytes(16)}))


@settings(max_examples=300)
@given(data=st.data())
def test_damage_anywhere_is_an_error_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    torch.save({"weight": torch.arange(40.0), "other": torch.ones(3, 2)}, folder / "model.ckpt")
    content = bytearray((folder / "model.ckpt").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "model.ckpt").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        file = map_tensor_file(folder / "model.ckpt")
        for name, tensor in file.tensors.items():
            file.verify(name)
            tensor[:1].tobytes()
    except InputError as error:
        assert "model.ckpt" in str(error)


@settings(max_examples=300)
@given(pickled=st.binary(max_size=60))
def test_any_bytes_for_a_pickle_are_an_error(tmp_path_factory: pytest.TempPathFactory, pickled: bytes) -> None:
    path = zip_pickle(tmp_path_factory.mktemp("bytes") / "model.ckpt", b"\x80\x02" + pickled)
    with pytest.raises(InputError, match=r"model\.ckpt"):
        map_tensor_file(path)
