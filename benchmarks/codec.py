"""Objects to bytes and back, against pickle 5 with out-of-band buffers and ProxyStore (TARGETS 2)."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.harness import Case, Code, Target, at_most
from benchmarks.run import main

TITLE = "Serialization (TARGETS 2)"

# What each side turns into bytes: `x`.
ARRAY = "import numpy as np\nx = np.random.default_rng(0).random({size} // 8)\n"
FRAME = (
    "import numpy as np, pandas as pd\n"
    "x = pd.DataFrame(np.random.default_rng(0).random(({size} // 80, 10)), columns=list('abcdefghij'))\n"
)
TENSOR = "import torch\n" + ARRAY + "x = torch.from_numpy(x)\n"
NESTED = """
import random
rng = random.Random(0)
def record(i):
    return {{"id": i, "name": f"record {{i}}", "values": [rng.random() for _ in range(5)],
             "tags": ("a", None, True), "sub": {{"x": rng.randrange(10**6), "y": [str(i)] * 2}}}}
x = [record(i) for i in range({size} // 135)]
"""
MASKED = (
    "import numpy as np\nx = np.ma.masked_less(np.random.default_rng(0).random({size} // 9), 0.1)\n"
)
BYTES = "x = {{'name': 'image', 'pixels': bytes({size})}}\n"
ARROW = "import pyarrow as pa\n" + ARRAY + "x = pa.table({{'x': x}})\n"
POLARS = "import polars as pl\n" + ARRAY + "x = pl.DataFrame({{'x': x}})\n"

# The bytes are read from memory that may be written to, as what a store's connectors give.
OURS = "from isthmus.codec import decode, encode, join\ndata = bytearray(join(encode(x)))\n"
PICKLE = """
import io, pickle
def dumps(obj):
    buffers = []
    return pickle.dumps(obj, protocol=5, buffer_callback=buffers.append), buffers
meta, buffers = dumps(x)
buffers = [bytearray(b) for b in buffers]
"""
# What somebody who knows how would do with torch and plain pickle.
PICKLE_TORCH = """
import copyreg, io, pickle
class Pickler(pickle.Pickler):
    dispatch_table = {**copyreg.dispatch_table, torch.Tensor: lambda t: (torch.from_numpy, (t.numpy(),))}
def dumps(obj):
    buffers, out = [], io.BytesIO()
    Pickler(out, 5, buffer_callback=buffers.append).dump(obj)
    return out.getvalue(), buffers
meta, buffers = dumps(x)
buffers = [bytearray(b) for b in buffers]
"""
PEER = "from proxystore.serialize import deserialize, serialize\ndata = bytes(serialize(x))\n"


def pair(
    label: str,
    make: str,
    size: int,
    unit: str,
    targets: tuple[list[Target], list[Target]] = ([], []),
    *,
    plain: str = PICKLE,
) -> Iterable[Case]:
    """Yield the two directions of one object."""
    x = make.format(size=size)
    yield Case(
        f"{label}, encode",
        Code("encode(x)", x + OURS),
        {
            "pickle 5": Code("dumps(x)", x + plain),
            "ProxyStore": Code("serialize(x)", x + PEER, side="ProxyStore"),
        },
        targets[0],
        unit=unit,
    )
    yield Case(
        f"{label}, decode",
        Code("decode(data)", x + OURS),
        {
            "pickle 5": Code("pickle.loads(meta, buffers=buffers)", x + plain),
            "ProxyStore": Code("deserialize(data)", x + PEER, side="ProxyStore"),
        },
        targets[1],
        unit=unit,
    )


def cases(quick: bool) -> Iterable[Case]:
    """Yield the rows: milliseconds at 100 MB and 1 MB, microseconds at 1 kB."""
    large, tenth, fifth, third = 100_000_000, [at_most(0.1)], [at_most(0.2)], [at_most(0.3)]
    yield from pair("1 kB ndarray", ARRAY, 1_000, "µs", ([at_most(5)], [at_most(5)]))
    yield from pair("100 MB ndarray", ARRAY, large, "ms", (tenth, tenth))
    yield from pair("100 MB pandas", FRAME, large, "ms", (fifth, third))
    yield from pair("100 MB torch", TENSOR, large, "ms", (tenth, tenth), plain=PICKLE_TORCH)
    as_pickle = [at_most(1.1, of="pickle 5")]
    yield from pair("1 MB nested Python", NESTED, 1_000_000, "ms", (as_pickle, as_pickle))
    # Beyond the targets: what else people send.
    yield from pair("100 MB masked array", MASKED, large, "ms")
    yield from pair("100 MB bytes in a dict", BYTES, large, "ms")
    yield from pair("100 MB Arrow table", ARROW, large, "ms")
    yield from pair("100 MB polars frame", POLARS, large, "ms")


if __name__ == "__main__":
    raise SystemExit(main(["codec"]))
