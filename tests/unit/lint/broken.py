"""Programs that break a rule; `#! CODE` marks each line where the linter must say so, and no other."""

IMPORTS = (
    "from isthmus.store import StoreExecutor, OwnedProxy, borrow, clone, drop, into_owned; "
    "from isthmus.store import mut_borrow, update; "
    "from isthmus.store.scopes import submit; from concurrent.futures import wait\n"
)

BROKEN = {
    "moved by submit": """
def f(store, pool):
    p = store.owned_proxy([1])
    submit(pool.submit, args=(sum, p))
    print(p)  #! IOW001
""",
    "moved by keyword": """
def f(store, pool):
    p = store.owned_proxy([1])
    submit(pool.submit, args=(sum,), kwargs={"x": p})
    return p  #! IOW001
""",
    "moved by way of a tuple": """
def f(store, pool):
    p = store.owned_proxy([1])
    given = (sum, p)
    submit(pool.submit, given)
    p.append(1)  #! IOW001
""",
    "moved by a StoreExecutor": """
def f(store, client):
    with StoreExecutor(client, store) as executor:
        p = store.owned_proxy([1])
        executor.submit(sum, p)
        p[0]  #! IOW001
""",
    "moved by a StoreExecutor's map": """
def f(store, executor: StoreExecutor):
    p, q = store.owned_proxy([1]), store.owned_proxy([2])
    executor.map(sum, [p, q])
    return len(q)  #! IOW001
""",
    "moved twice": """
def f(store, pool):
    p = store.owned_proxy([1])
    submit(pool.submit, args=(sum, p))
    submit(pool.submit, args=(sum, p))  #! IOW001
""",
    "moved twice in one call": """
def f(store, pool):
    p = store.owned_proxy([1])
    submit(pool.submit, args=(zip, p, p))  #! IOW001
""",
    "dropped, then used": """
def f(store):
    p = store.owned_proxy([1])
    drop(p)
    p += [1]  #! IOW001
""",
    "dropped twice": """
p = store.owned_proxy([1])
drop(p)
drop(p)  #! IOW001
""",
    "borrowed after it was dropped": """
p = store.owned_proxy([1])
drop(p)
r = borrow(p)  #! IOW001
""",
    "cloned after it was moved": """
def f(store, executor: StoreExecutor):
    p = store.owned_proxy([1])
    executor.submit(sum, p)
    q = clone(p)  #! IOW001
""",
    "used by another name": """
def f(store, pool):
    p = store.owned_proxy([1])
    q = p
    submit(pool.submit, args=(sum, p))
    print(q)  #! IOW001
""",
    "unpacked": """
def f(store, pool):
    p, n = store.owned_proxy([1]), 2
    pair = (p, n)
    q, m = pair
    submit(pool.submit, args=(sum, q))
    print(n + m, p)  #! IOW001
""",
    "named on the way": """
def f(store, pool):
    submit(pool.submit, args=(sum, (p := store.owned_proxy([1]))))
    print(p)  #! IOW001
""",
    "given two owners": """
def f(store):
    plain = store.proxy([1])
    p = into_owned(plain)
    print(plain)
    q = into_owned(plain)  #! IOW001
""",
    "a parameter given two owners": """
def f(plain):
    return into_owned(plain), into_owned(plain)  #! IOW001
""",
    "a parameter by its annotation": """
def f(p: OwnedProxy[list], pool):
    submit(pool.submit, args=(sum, p))
    return sum(p)  #! IOW001
""",
    "an annotated variable": """
p: OwnedProxy[int] = make()
drop(p)
p.real  #! IOW001
""",
    "moved in a loop": """
def f(store, pool):
    p = store.owned_proxy([1])
    for _ in range(3):
        submit(pool.submit, args=(sum, p))  #! IOW001
""",
    "moved in a comprehension": """
def f(store, pool):
    p = store.owned_proxy([1])
    return [submit(pool.submit, args=(sum, p)) for _ in range(3)]  #! IOW001
""",
    "used at the loop's next round": """
def f(store, pool):
    p = store.owned_proxy([1])
    while ready():
        print(p)  #! IOW001
        drop(p)
""",
    "moved in an endless loop": """
def f(store):
    p = store.owned_proxy([1])
    while True:
        if done():
            break
        drop(p)  #! IOW001
""",
    "moved in one branch": """
def f(store, pool, far):
    p = store.owned_proxy([1])
    if far:
        submit(pool.submit, args=(sum, p))
    print(p)  #! IOW001
""",
    "moved in both branches": """
def f(store, pool, far):
    p = store.owned_proxy([1])
    if far:
        submit(pool.submit, args=(sum, p))
    else:
        drop(p)
    if far:
        print(p)  #! IOW001
""",
    "made in branches": """
def f(store, big):
    if big:
        p = store.owned_proxy([1])
    else:
        p = store.owned_proxy([2])
    drop(p)
    print(p)  #! IOW001
""",
    "made by either": """
def f(store, big):
    p = store.owned_proxy([1]) if big else store.owned_proxy([2])
    drop(p)
    print(p)  #! IOW001
""",
    "made if at all": """
def f(store, big):
    p = None
    if big:
        p = store.owned_proxy([1])
    if p is not None:
        drop(p)
        print(p)  #! IOW001
""",
    "moved in a try": """
def f(store, pool):
    p = store.owned_proxy([1])
    try:
        submit(pool.submit, args=(sum, p))
    except OSError:
        raise
    print(p)  #! IOW001
""",
    "moved before a try": """
def f(store, pool):
    p = store.owned_proxy([1])
    submit(pool.submit, args=(sum, p))
    try:
        work()
    except OSError:
        print(p)  #! IOW001
    finally:
        pass
""",
    "moved before its finally": """
def f(store):
    p = store.owned_proxy([1])
    try:
        return p
    finally:
        drop(p)  #! IOW001
""",
    "moved in a match": """
def f(store, what):
    p = store.owned_proxy([1])
    match what:
        case 1:
            drop(p)
        case _:
            drop(p)
    print(p)  #! IOW001
""",
    "short circuit": """
def f(store, why):
    p = store.owned_proxy([1])
    why and drop(p)
    print(p)  #! IOW001
""",
    "in a method": """
class A:
    def f(self):
        p = self.store.owned_proxy([1])
        drop(p)
        self.p = p
        print(p)  #! IOW001
""",
    "in an async function": """
async def f(store, pool):
    p = store.owned_proxy([1])
    await asyncio.wrap_future(submit(pool.submit, args=(sum, p)))
    async with lock:
        print(p)  #! IOW001
""",
    "in a nested function": """
def f(store):
    def g():
        p = store.owned_proxy([1])
        drop(p)
        return p  #! IOW001
    return g
""",
    "two mutable": """
def f(store):
    p = store.owned_proxy([1])
    m = mut_borrow(p)
    n = mut_borrow(p)  #! IOW002
""",
    "a mutable reference in two tasks": """
def f(store, pool):
    p = store.owned_proxy([1])
    m = mut_borrow(p)
    first = submit(pool.submit, args=(sum, m))
    second = submit(pool.submit, args=(sum, m))  #! IOW002
    wait([first, second])
""",
    "a task has it still": """
def f(store, pool):
    p = store.owned_proxy([1])
    future = submit(pool.submit, args=(sum, mut_borrow(p)))
    again = mut_borrow(p)  #! IOW002
    future.result()
""",
    "mutable at each round": """
def f(store, pool):
    p = store.owned_proxy([1])
    futures = []
    for _ in range(3):
        futures.append(submit(pool.submit, args=(sum, mut_borrow(p))))  #! IOW002
    wait(futures)
""",
    "updated while a task writes": """
def f(store, pool):
    p = store.owned_proxy([1])
    future = submit(pool.submit, args=(sum, mut_borrow(p)))
    update(p)  #! IOW002
    future.result()
""",
    "mutable, then immutable": """
def f(store):
    p = store.owned_proxy([1])
    m = mut_borrow(p)
    r = borrow(p)  #! IOW003
""",
    "immutable, then mutable": """
def f(store):
    p = store.owned_proxy([1])
    r = s = borrow(p)
    del r
    m = mut_borrow(p)  #! IOW003
""",
    "both in one call": """
def f(store, pool):
    p = store.owned_proxy([1])
    submit(pool.submit, args=(zip, borrow(p), mut_borrow(p))).result()  #! IOW003
""",
    "updated while tasks read": """
def f(store, pool):
    p = store.owned_proxy([1])
    futures = [submit(pool.submit, args=(sum, borrow(p))) for _ in range(3)]
    update(p)  #! IOW003
    wait(futures)
""",
    "one of two tasks has it still": """
def f(store, pool):
    p = store.owned_proxy([1])
    r = borrow(p)
    first = submit(pool.submit, args=(sum, r))
    second = submit(pool.submit, args=(sum, r))
    first.result()
    mut_borrow(p)  #! IOW003
    second.result()
""",
    "another pool's end": """
def f(store, pool):
    p = store.owned_proxy([1])
    with Pool() as outer:
        with Pool() as inner:
            submit(outer.submit, args=(sum, borrow(p)))
        mut_borrow(p)  #! IOW003
""",
    "dropped while borrowed": """
def f(store):
    p = store.owned_proxy([1])
    r = borrow(p)
    drop(p)  #! IOW004
""",
    "deleted while borrowed": """
p = store.owned_proxy([1])
r = borrow(p)
del p  #! IOW004
""",
    "rebound while borrowed": """
def f(store):
    p = store.owned_proxy([1])
    r = borrow(p)
    p = store.owned_proxy([2])  #! IOW004
""",
    "rebound at the next round": """
def f(store, pool, items):
    futures = []
    for item in items:
        p = store.owned_proxy(item)  #! IOW004
        futures.append(submit(pool.submit, args=(sum, borrow(p))))
    wait(futures)
    return 1
""",
    "out of scope while a task reads": """
def f(store, pool):
    p = store.owned_proxy([1])
    future = submit(pool.submit, args=(sum, borrow(p)))
    print("started")  #! IOW004
""",
    "a reference outlives its owner": """
def f(store):
    p = store.owned_proxy([1])
    return borrow(p)  #! IOW004
""",
    "a future outlives its owner": """
def f(store, pool):
    p = store.owned_proxy([1])
    return submit(pool.submit, args=(sum, borrow(p)))  #! IOW004
""",
    "futures outlive their owner": """
def f(store, pool):
    p = store.owned_proxy([1])
    futures = [submit(pool.submit, args=(sum, borrow(p))) for _ in range(3)]
    return futures  #! IOW004
""",
    "dropped after tasks of a loop": """
def f(store, pool):
    p = store.owned_proxy([1])
    for _ in range(3):
        submit(pool.submit, args=(sum, borrow(p)))
    drop(p)  #! IOW004
""",
    "moved while borrowed": """
def f(store, pool):
    p = store.owned_proxy([1])
    r = borrow(p)
    submit(pool.submit, args=(sum, p))  #! IOW005
""",
    "moved while a task reads": """
def f(store, executor: StoreExecutor):
    p = store.owned_proxy([1])
    executor.submit(sum, borrow(p))
    executor.submit(sum, p)  #! IOW005
""",
    "with a reference beside it": """
def f(store, executor: StoreExecutor):
    p = store.owned_proxy([1])
    executor.submit(zip, borrow(p), p)  #! IOW005
""",
}

OTHER_NAMES = {
    "import store": "import isthmus.store\np = s.owned_proxy(1)\nisthmus.store.drop(p)\np.x  #! IOW001\n",
    "as": "import isthmus.store.ownership as o\np = s.owned_proxy(1)\no.drop(p)\np.real  #! IOW001\n",
    "from as": "from isthmus.store import drop as x\np = s.owned_proxy(1)\nx(p)\np.real  #! IOW001\n",
    "star": "from isthmus.store import *\np = s.owned_proxy(1)\ndrop(p)\np.real  #! IOW001\n",
    "module": (
        "from isthmus.store import scopes\np = s.owned_proxy(1)\n"
        "scopes.submit(e.submit, args=(f, p))\np.real  #! IOW001\n"
    ),
    "the dissertation's": (
        "from proxystore.store.ref import borrow, mut_borrow\nfrom proxystore.store.scopes import submit\n"
        "p = s.owned_proxy(1)\nr = borrow(p)\nm = mut_borrow(p)  #! IOW003\n"
    ),
    "the dissertation's executor": (
        "from proxystore.store.executor import StoreExecutor\ne = StoreExecutor(x, store=s)\n"
        "p = s.owned_proxy(1)\ne.submit(f, p)\np.real  #! IOW001\n"
    ),
    "in a function": (
        "def f(s):\n    from isthmus.store import drop\n    p = s.owned_proxy(1)\n"
        "    drop(p)\n    p.real  #! IOW001\n"
    ),
    "if it is there": (
        "try:\n    from isthmus.store import drop\nexcept ImportError:\n    drop = None\n"
        "def f(s):\n    p = s.owned_proxy(1)\n    drop(p)\n    p.real  #! IOW001\n"
    ),
}
