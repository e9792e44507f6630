"""What a consumer cannot import travels whole; scripts run as real processes."""

from __future__ import annotations

import base64
import functools
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus import codec
from isthmus.codec import callables

HERE = Path(__file__).parent


def run(code: str, *args: str, folder: Path, script: bool = True) -> str:
    """Run a script (or ``-c`` code) in a fresh interpreter that does not know this test."""
    target = ["-c", code]
    if script:
        path = folder / "job.py"
        path.write_text(code)
        target = [str(path)]
    done = subprocess.run(
        [sys.executable, "-W", "error", *target, *args],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        timeout=60,
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()


PRODUCER = """
import sys
from isthmus import codec
import numpy as np
K = 10
BIG = np.zeros(1000)
class Base:
    def __init__(self, x): self.x = x
    def next(self): return Base(self.x + K)
class Point(Base): pass
def double(x):
    BIG[0] = x
    return int(2 * BIG[0] * K)
if __name__ == "__main__":
    obj = {"deep": [({"p": Point(1)},)], "fn": double, "cls": Point, "local": (lambda y: y + K)}
    open(sys.argv[1], "wb").write(codec.serialize(obj))
"""
CONSUMER = """
import sys
from isthmus import codec
with open(sys.argv[1], "rb") as file:
    o = codec.deserialize(bytearray(file.read()))
p = o["deep"][0][0]["p"]
print(p.x, p.next().x, o["fn"](2), type(p) is o["cls"], o["local"](1), type(p).__mro__[1].__name__)
"""


@pytest.mark.parametrize("script", [True, False])
def test_a_script_s_classes_and_functions_reach_another_process(
    tmp_path: Path, script: bool
) -> None:
    run(PRODUCER, str(tmp_path / "obj"), folder=tmp_path, script=script)
    seen = run(CONSUMER, str(tmp_path / "obj"), folder=tmp_path, script=False)
    assert seen == "1 11 40 True 11 Base"


FAMILY = """
import multiprocessing as mp, sys, threading
from isthmus import codec
class Point:
    lock = threading.Lock()  # cannot travel by value: the name has to do
    def __init__(self, x): self.x = x
class Plain:
    pass
def child(queue, data):
    plain, point = codec.deserialize(data)
    queue.put((isinstance(plain, Plain) and isinstance(point, Point), codec.serialize([plain, Point(2)])))
if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue, codec.serialize([Plain(), Point(1)])))
    process.start()
    there, data = queue.get()
    process.join()
    plain, point = codec.deserialize(data)
    print(there, type(plain) is Plain, type(point) is Point)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_one_script_share_its_classes(tmp_path: Path, method: str) -> None:
    assert run(FAMILY, method, folder=tmp_path) == "True True True"


def test_what_can_travel_by_name_only_says_so_elsewhere(tmp_path: Path) -> None:
    code = FAMILY.split("if __name__")[0] + (
        "open(sys.argv[1], 'wb').write(codec.serialize(Point(1)))\n"
    )
    run(code, str(tmp_path / "obj"), folder=tmp_path)
    with pytest.raises(codec.CodecError, match=r"'Point' is defined in the script .*job.py"):
        codec.deserialize((tmp_path / "obj").read_bytes())


def test_local_classes_and_closures_come_back() -> None:
    class Local:
        def __init__(self, x: int) -> None:
            self.x = x

    def outer(n: int) -> Any:
        return lambda: n

    back = codec.deserialize(codec.serialize([Local(1), outer(5)]))
    assert type(back[0]) is Local
    assert back[1]() == 5


def test_arrays_beside_a_local_class_are_still_views() -> None:
    class Local:
        data = None

    obj = Local()
    obj.data = np.arange(10_000)
    pieces = codec.encode([obj, Local])
    assert any(np.shares_memory(np.frombuffer(p, "u1"), obj.data) for p in pieces)


def test_text_about_main_is_no_reason_for_the_slow_path() -> None:
    from isthmus.codec import pickling

    pieces, _ = pickling.dumps(['if __name__ == "__main__":'])
    assert not pickling._names_main(pieces)
    pieces, _ = pickling.dumps(["__main__"])  # the very string costs time, no more
    assert codec.deserialize(codec.serialize(["__main__"])) == ["__main__"]


def test_modules_declared_to_travel_by_value_do(tmp_path: Path) -> None:
    code = (
        "import cloudpickle, sys, shaped\nfrom isthmus import codec\n"
        "cloudpickle.register_pickle_by_value(shaped)\n"
        "open(sys.argv[1], 'wb').write(codec.serialize([shaped.Model(2.0)]))\n"
    )
    run(code, str(tmp_path / "obj"), folder=tmp_path)
    (back,) = codec.deserialize((tmp_path / "obj").read_bytes())  # `shaped` is not importable here
    assert back.weight == 2.0
    assert "shaped" not in sys.modules


class Holder:
    def __init__(self) -> None:
        self.name = "x"
        self.parts = {"deep": [1, threading.Lock()]}


class Slotted:
    __slots__ = ("handle", "unset")

    def __init__(self) -> None:
        self.handle = (i for i in ())


UNPICKLABLE = [
    (Holder(), r"\.parts\['deep'\]\[1\] of a .*Holder \(_thread.lock\).*make it where it is used"),
    (Slotted(), r"\.handle of a .*Slotted \(generator\).*make a list of it"),
    (threading.Lock(), r"cannot serialize a _thread.lock"),
    ({"f": (lambda h: lambda: h)(threading.Lock())}, r"\['f'\] variable 'h'"),
    ({(threading.Lock(),): 1}, r"key .*lock"),
]


@pytest.mark.parametrize(("obj", "says"), UNPICKLABLE, ids=range(len(UNPICKLABLE)))
def test_the_part_that_cannot_travel_is_named(obj: Any, says: str) -> None:
    with pytest.raises(codec.CodecError, match=says):
        codec.encode(obj)


def test_an_open_file_is_not_silently_read(tmp_path: Path) -> None:
    with (
        (tmp_path / "f").open("w+") as file,
        pytest.raises(codec.CodecError, match="pass the path"),
    ):
        codec.encode({"f": file})


def test_nesting_too_deep_says_so() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(codec.CodecError, match="too deeply"):
        codec.encode(deep)


class Refuses:
    def __reduce__(self) -> Any:
        raise codec.CodecError("an owner stays where it is", "use submit")


def test_an_object_that_refuses_speaks_for_itself() -> None:
    with pytest.raises(codec.CodecError, match="use submit"):
        codec.encode([Refuses()])


def explode() -> None:
    raise ValueError("bad state")


class Explodes:
    def __reduce__(self) -> Any:
        return explode, ()


def test_an_error_while_rebuilding_is_a_codec_error_with_its_cause() -> None:
    with pytest.raises(codec.CodecError, match="ValueError: bad state") as caught:
        codec.deserialize(codec.serialize(Explodes()))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    code = (
        "import sys, shaped\nfrom isthmus import codec\n"
        "open(sys.argv[1], 'wb').write(codec.serialize(shaped.Model(2.0)))\n"
    )
    run(code, str(tmp_path / "obj"), folder=tmp_path)
    with pytest.raises(codec.CodecError, match="No module named 'shaped'; install it"):
        codec.deserialize((tmp_path / "obj").read_bytes())


@pytest.mark.parametrize("fn", [codec.serialize, len, os.path.join, codec.CodecError])
def test_importable_callables_travel_by_name(fn: Any) -> None:
    packed = codec.pack_callable(fn)
    assert packed == f"{fn.__module__}:{fn.__qualname__}"
    assert codec.load_callable(packed) == fn


def test_others_travel_by_value_and_warn_once() -> None:
    def local(x: int) -> int:
        return x + 1

    with pytest.warns(codec.ByValueWarning, match=r"local' of .* travels by value, \d+ bytes"):
        packed = codec.pack_callable(local)
    assert packed.startswith("by-value:")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert codec.pack_callable(local) == packed
    assert codec.load_callable(packed)(1) == 2


def test_a_partial_of_an_importable_function_keeps_its_arguments() -> None:
    packed = codec.pack_callable(functools.partial(int, base=2))  # warnings are errors
    assert codec.load_callable(packed)("101") == 5
    with pytest.warns(codec.ByValueWarning, match="partial"):
        codec.pack_callable(functools.partial(lambda base: base, base=2))


def test_a_shadowed_name_is_not_taken_for_the_callable() -> None:
    def shadow() -> int:
        return 1

    shadow.__module__, shadow.__qualname__ = "json", "dumps"
    callables._warned.discard(("json", "dumps"))
    with pytest.warns(codec.ByValueWarning):
        packed = codec.pack_callable(shadow)
    assert codec.load_callable(packed)() == 1


@pytest.mark.parametrize(
    ("packed", "says"),
    [
        ("no_such_module_:f", "no_such_module_"),
        ("json:no_such", "no_such"),
        ("json", "cannot import 'json'"),
        ("json:__name__", "not a callable"),
        ("by-value:!", "damaged"),
        ("by-value:AAAA", "bytes"),
        ("by-value:" + base64.b64encode(codec.serialize(3)).decode(), "not a callable"),
    ],
)
def test_what_is_no_callable_here(packed: Any, says: str) -> None:
    with pytest.raises(codec.CodecError, match=says):
        codec.load_callable(packed)


FIGURE_3_6 = """
import sys
from isthmus import codec
{definition}
packed = [codec.pack_callable(serialize_model), codec.pack_callable(deserialize_model)]
print(*(p.partition(":")[0] for p in packed))
open(sys.argv[1], "wb").write(codec.serialize([packed, codec.join([serialize_model(Model(2.5))])]))
"""


@pytest.mark.parametrize("where", ["module", "script"])
def test_custom_serializers_of_figure_3_6(tmp_path: Path, where: str) -> None:
    definition = (HERE / "shaped.py").read_text().replace("from __future__ import annotations", "")
    if where == "module":
        definition = "from shaped import *"
    else:
        definition = "import warnings; warnings.simplefilter('ignore')\n" + definition
    kinds = run(FIGURE_3_6.format(definition=definition), str(tmp_path / "o"), folder=tmp_path)
    assert kinds == ("shaped shaped" if where == "module" else "by-value by-value")
    seen = run(
        "import sys\nfrom isthmus import codec\n"
        "(to, back), data = codec.deserialize(open(sys.argv[1], 'rb').read())\n"
        "to, back = codec.load_callable(to), codec.load_callable(back)\n"
        "print(back(data).weight, back(to(back(data))).weight, back(to([1])))",
        str(tmp_path / "o"),
        folder=tmp_path,
        script=False,
    )
    assert seen == "2.5 2.5 [1]"


def test_what_is_no_function_is_refused_where_it_is_given() -> None:
    with pytest.raises(TypeError, match="a function is needed, not 3 of type int"):
        codec.pack_callable(3)  # type: ignore[arg-type]
