"""Arrow, polars and torch objects, where those are installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from isthmus import codec

# polars keeps a pool of threads, Arrow one too; both for as long as the process lives.
pytestmark = [pytest.mark.extras, pytest.mark.leaks_allowed("anon_inode")]


def again(obj: Any) -> Any:
    return codec.decode(bytearray(codec.serialize(obj)))


@pytest.fixture(scope="module")
def pa() -> Any:
    return pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def pl() -> Any:
    return pytest.importorskip("polars")


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


def test_arrow_objects(pa: Any) -> None:
    table = pa.table({"i": [1, None, 3], "s": ["a", "bc", None], "l": [[1], [], None]})
    table = table.replace_schema_metadata({"k": "v"})
    for obj in (
        table,
        table.slice(1, 1),
        table.slice(0, 0),
        pa.concat_tables([table, table]),
        table.to_batches()[0],
        table.to_batches()[0].slice(0, 0),
        table.column("s"),
        pa.chunked_array([], pa.int32()),
        pa.array(["x", "y", "x"]).dictionary_encode(),
        pa.array([{"a": 1, "b": "x"}]),
        pa.array([None, None]),
        pa.array([], pa.string()),
        pa.schema([("a", pa.int8())]),
        pa.scalar(3),
    ):
        for back in (again(obj), again([obj])[0]):
            assert type(back) is type(obj)
            assert back.equals(obj)
    assert again(table).schema.metadata == table.schema.metadata


def test_a_slice_of_an_arrow_table_travels_alone(pa: Any) -> None:
    table = pa.table({"a": np.arange(1_000_000)})
    assert codec.size(codec.encode(table.slice(5, 10))) < 10_000


def test_arrow_tables_are_views_both_ways(pa: Any) -> None:
    array = np.arange(10_000)
    pieces = codec.encode(pa.table({"a": array}))
    assert any(np.shares_memory(np.frombuffer(p, "u1"), array) for p in pieces if len(p))
    data = bytearray(codec.join(pieces))
    column = codec.decode(data)["a"].chunk(0).to_numpy()
    assert np.shares_memory(column, np.frombuffer(data, "u1"))


def test_damage_inside_an_arrow_stream_never_crashes(pa: Any) -> None:
    table = pa.table({"s": ["some", "strings", "of", "several", "lengths"] * 20})
    data = codec.serialize(table)
    start = len(data) - 2000
    for at in range(max(start, 0), len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x7F
        try:
            codec.decode(changed).to_pylist()
        except codec.CodecError:
            pass


def test_polars_objects(pl: Any) -> None:
    frame = pl.DataFrame(
        {"i": [1, None], "s": ["a", "é"], "l": [[1], []], "t": [True, None]},
        schema_overrides={"i": pl.Int8},
    ).with_columns(c=pl.Series(["x", "y"], dtype=pl.Categorical))
    for obj in (frame, frame.head(0), pl.DataFrame()):
        assert again(obj).equals(obj)
        assert again([obj])[0].schema == obj.schema
    series = frame["s"]
    back = again(series)
    assert type(back) is pl.Series
    assert (back.name, back.to_list()) == (series.name, series.to_list())
    assert again(frame.lazy().select("i")).collect().equals(frame.select("i"))


def test_damage_inside_a_polars_stream_never_crashes(pl: Any) -> None:
    data = codec.serialize(
        pl.DataFrame({"s": ["some", "strings", "of", "several lengths, long"] * 9})
    )
    for at in range(200, len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x7F
        try:
            codec.decode(changed).to_dicts()
        except codec.CodecError:
            pass


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:.*quantize", "ignore:TypedStorage")
def test_tensors(torch: Any) -> None:
    for obj in (
        torch.arange(6.0),
        torch.arange(6.0).reshape(2, 3).T,
        torch.zeros(0, 3),
        torch.tensor(1.5),
        torch.arange(4, dtype=torch.bfloat16),
        torch.ones(3, dtype=torch.float8_e4m3fn),
        torch.tensor([True]),
        torch.randn(3, dtype=torch.complex64).conj(),
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.arange(3.0, requires_grad=True),
        torch.eye(3).to_sparse(),
        torch.eye(3).to_sparse_csr(),
        torch.nn.Parameter(torch.ones(2), requires_grad=False),
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    ):
        for back in (again(obj), again({"t": obj})["t"]):
            assert type(back) is type(obj)
            assert (back.dtype, back.shape, back.layout) == (obj.dtype, obj.shape, obj.layout)
            assert back.requires_grad == obj.requires_grad
            assert back.is_conj() == obj.is_conj()
            if obj.layout is torch.strided:
                assert back.stride() == obj.stride()
                dense = [
                    t.detach().dequantize() if t.is_quantized else t.detach() for t in (obj, back)
                ]
                assert [t.tolist() for t in dense[:1]] == [t.tolist() for t in dense[1:]]
            else:
                assert back.to_dense().equal(obj.to_dense())


def test_a_tensor_in_the_middle_of_a_graph_travels_as_a_leaf(torch: Any) -> None:
    back = again(torch.ones(2, requires_grad=True) * 2)
    assert back.requires_grad
    assert back.is_leaf
    back.sum().backward()


def test_tensors_of_one_storage_share_one_afterwards(torch: Any) -> None:
    base = torch.zeros(10)
    a, b = again([base, base[2:8]])
    a[2] = 5
    assert b[0] == 5
    c, d = again([base, base])
    assert c is d


def test_a_small_part_of_a_large_tensor_travels_alone(torch: Any) -> None:
    part = torch.zeros(1_000_000, requires_grad=True)[:10]
    assert codec.size(codec.encode(part)) < 2000
    assert again(part).requires_grad


def test_tensors_are_views_of_writable_data_and_copies_of_read_only_data(torch: Any) -> None:
    tensor = torch.zeros(10_000)
    pieces = codec.encode(tensor)
    assert any(np.shares_memory(np.frombuffer(p, "u1"), tensor.numpy()) for p in pieces)
    data = bytearray(codec.join(pieces))
    back = codec.decode(data)
    assert np.shares_memory(back.numpy(), np.frombuffer(data, "u1"))
    frozen = codec.join(pieces)
    back = codec.decode(frozen)
    back += 1
    assert codec.decode(frozen).sum() == 0


def test_modules_keep_parameters_ties_and_state(torch: Any) -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3)
    )
    model[2].weight = model[0].weight
    model.eval()
    back = again(model)
    x = torch.randn(4, 3)
    assert torch.equal(back(x), model(x))
    assert back[2].weight is back[0].weight
    assert not back.training
    assert [n for n, _ in back.named_parameters()] == [n for n, _ in model.named_parameters()]


def test_an_optimizer_keeps_hold_of_its_parameters(torch: Any) -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    back, again_optimizer = again((model, optimizer))
    assert again_optimizer.param_groups[0]["params"][0] is back.weight


def test_a_tensor_of_another_device_stays_on_the_cpu_unless_asked(torch: Any) -> None:
    from isthmus.codec.tensors import _load_storage

    # What a producer with a GPU writes; this machine need not have one.
    assert _load_storage(bytearray(8), "cuda:0").device.type == "cpu"
    if not torch.cuda.is_available():
        with codec.original_devices(), pytest.raises(codec.CodecError, match="cuda:0"):
            _load_storage(bytearray(8), "cuda:0")
        return
    tensor = torch.arange(5, device="cuda")
    assert again(tensor).device.type == "cpu"
    with codec.original_devices():
        assert again(tensor).device == tensor.device


def test_a_meta_tensor_has_nothing_to_send(torch: Any) -> None:
    with pytest.raises(codec.CodecError, match="meta"):
        codec.encode(torch.storage.UntypedStorage(4, device="meta"))
