"""Programs that keep the rules, or may: the linter is silent about each."""

SOUND = {
    "figure 4.7": """
with Store() as store, ProcessPoolExecutor() as pool:
    proxy = store.owned_proxy([1, 2, 3])
    borrowed = borrow(proxy)
    future = submit(pool.submit, args=(sum, borrowed))
    assert future.result() == 6
    del proxy
""",
    "a reference is given up": """
def f(store):
    p = store.owned_proxy([1])
    r = borrow(p)
    drop(r)
    m = mut_borrow(p)
    drop(m)
    drop(p)
""",
    "a reference ends by its variable": """
def f(store):
    p = store.owned_proxy([1])
    r = borrow(p)
    del r
    m = mut_borrow(p)
    m = None
    r = borrow(p)
    s = borrow(p)
    del r, s
    drop(p)
""",
    "a reference of the moment": """
def f(store):
    p = store.owned_proxy([1])
    print(borrow(p))
    mut_borrow(p).append(2)
    update(p)
    drop(p)
""",
    "locals end together": """
def f(store):
    p = store.owned_proxy([1])
    r = borrow(p)
    return len(r)
""",
    "owner and reference leave together": """
def f(store):
    p = store.owned_proxy([1])
    return p, borrow(p)
""",
    "the pool's end waits": """
def f(store):
    p = store.owned_proxy([1])
    with Pool() as pool:
        submit(pool.submit, args=(sum, borrow(p)))
    drop(p)
""",
    "returned from within the pool": """
def f(store):
    p = store.owned_proxy([1])
    with Pool() as pool:
        return submit(pool.submit, args=(sum, borrow(p)))
""",
    "a pool that is closed by others": """
def f(store, pool):
    with pool:
        p = store.owned_proxy([1])
        submit(pool.submit, args=(sum, borrow(p)))
    q = store.owned_proxy([1])
    with ExitStack() as stack:
        other = stack.enter_context(Pool())
        submit(other.submit, args=(sum, borrow(q)))
    drop(q)
""",
    "shutdown waits": """
def f(store):
    pool = Pool()
    p = store.owned_proxy([1])
    submit(pool.submit, args=(sum, mut_borrow(p)))
    pool.shutdown()
    submit(self.pool.submit, args=(sum, mut_borrow(p)))
    self.pool.shutdown()
    drop(p)
""",
    "many ways to wait": """
def f(store, pool, client):
    p = store.owned_proxy([1])
    submit(pool.submit, args=(sum, mut_borrow(p))).result()
    a = submit(pool.submit, args=(sum, mut_borrow(p)))
    wait([a])
    b = submit(pool.submit, args=(sum, mut_borrow(p)))
    for done in as_completed([b]):
        done.result()
    c = [submit(pool.submit, args=(sum, borrow(p))) for _ in range(3)]
    results = [future.result() for future in c]
    d = []
    for _ in range(3):
        d.append(submit(pool.submit, args=(sum, borrow(p))))
    for future in d:
        future.result()
    e = submit(pool.submit, args=(sum, mut_borrow(p)))
    client.gather(e)
    g = submit(pool.submit, args=(sum, mut_borrow(p)))
    if g.exception() is None:
        drop(p)
""",
    "awaited": """
async def f(store, pool):
    p = store.owned_proxy([1])
    await submit(pool.submit, args=(sum, mut_borrow(p)))
    a = submit(pool.submit, args=(sum, mut_borrow(p)))
    await asyncio.wrap_future(a)
    update(p)
""",
    "a new owner at each round": """
def f(store, pool, items):
    for item in items:
        p = store.owned_proxy(item)
        submit(pool.submit, args=(sum, p))
""",
    "owners in a list": """
def f(store, pool, items):
    ps = [store.owned_proxy(item) for item in items]
    for p in ps:
        submit(pool.submit, args=(sum, p))
    qs = []
    for item in items:
        q = store.owned_proxy(item)
        qs.append(q)
        futures.append(submit(pool.submit, args=(sum, borrow(q))))
""",
    "a clone goes": """
def f(store, pool):
    p = store.owned_proxy([1])
    for _ in range(3):
        submit(pool.submit, args=(sum, clone(p)))
    q = clone(p)
    submit(pool.submit, args=(sum, q))
    drop(p)
""",
    "bound anew": """
def f(store, pool):
    p = store.owned_proxy([1])
    submit(pool.submit, args=(sum, p))
    p = submit(pool.submit, args=(make,)).result()
    print(p)
    drop(p)
    p, q = store.owned_proxy([1]), 1
    print(p)
""",
    "swapped": """
def f(store):
    p, q = store.owned_proxy([1]), store.owned_proxy([2])
    r = borrow(p)
    p, q = q, p
    drop(p)
""",
    "questions about the handle": """
def f(store, executor: StoreExecutor):
    p = store.owned_proxy([1])
    executor.submit(sum, p)
    assert isinstance(p, OwnedProxy) and p is not None and type(p) and id(p)
    del p
""",
    "the same condition": """
def f(store, pool, far):
    p = store.owned_proxy([1])
    if far:
        submit(pool.submit, args=(sum, p))
    if not far:
        drop(p)
""",
    "left early": """
def f(store, pool, far):
    p = store.owned_proxy([1])
    if far:
        submit(pool.submit, args=(sum, p))
        return
    print(p)
    if far:
        drop(p)
        raise ValueError
    while True:
        if far:
            drop(p)
            break
        print(p)
""",
    "a flag": """
def f(store, pool, far):
    p = store.owned_proxy([1])
    moved = False
    for x in far:
        if x and not moved:
            submit(pool.submit, args=(sum, p))
            moved = True
    if moved:
        return
    print(p)
""",
    "the last round": """
def f(store, pool, items):
    p = store.owned_proxy([1])
    for item in items:
        print(p)
        if item == items[-1]:
            drop(p)
            break
    else:
        drop(p)
""",
    "it failed before the move": """
def f(store, pool):
    p = store.owned_proxy([1])
    try:
        submit(pool.submit, args=(sum, p))
    except OSError:
        drop(p)
        raise
""",
    "finally": """
def f(store, pool):
    p = store.owned_proxy([1])
    r = borrow(p)
    try:
        submit(pool.submit, args=(sum, r)).result()
    finally:
        del r
        drop(p)
""",
    "read in finally": """
def f(store):
    p = store.owned_proxy([1])
    try:
        return p
    finally:
        print(p)
""",
    "waited for in a try": """
def f(store, pool):
    p = store.owned_proxy([1])
    future = submit(pool.submit, args=(sum, mut_borrow(p)))
    try:
        with watch():
            future.result()
            raise ValueError
    except ValueError:
        mut_borrow(p)
    drop(p)
""",
    "broken on purpose": """
def f(store):
    p = store.owned_proxy([1])
    r = borrow(p)
    with pytest.raises(OwnershipError, match="borrowed"):
        mut_borrow(p)
    with self.assertRaises(OwnershipError):
        drop(p)
    try:
        drop(p)
    except OwnershipError as error:
        print(error)
    else:
        raise AssertionError
    del r
    m = mut_borrow(p)
    del m
    drop(p)
    with pytest.raises(RuntimeError):
        print(p)
""",
    "returned unless it breaks a rule": """
def f(store):
    p = store.owned_proxy([1])
    try:
        return drop(p)
    except OwnershipError:
        pass
    with pytest.raises(ValueError):
        raise ValueError
    print(p)
""",
    "closures have it": """
def f(store, pool):
    p = store.owned_proxy([1])
    q = lambda: drop(p)
    g = borrow(p)
    def later():
        nonlocal p
        p = None
    return q
""",
    "a closure waits": """
def f(store, pool):
    p = store.owned_proxy([1])
    future = submit(pool.submit, args=(sum, mut_borrow(p)))
    end(lambda: future.result())
    drop(p)
""",
    "attributes and items": """
class A:
    def f(self, d):
        self.p = self.store.owned_proxy([1])
        self.r = borrow(self.p)
        drop(self.p)
        p = self.store.owned_proxy([1])
        d["p"] = p
        d["r"] = borrow(p)
        drop(p)
        q = self.store.owned_proxy([1])
        self.q, x = q, 1
        r = borrow(q)
        self.keep(r)
        drop(q)
""",
    "a global": """
p = None
def f(store):
    global p
    p = store.owned_proxy([1])
    r = borrow(p)
    drop(p)
drop(p)
print(p)
""",
    "other things of these names": """
def f(store, pool, borrow, submit):
    p = store.owned_proxy([1])
    r = borrow(p)
    submit(pool.submit, args=(sum, p))
    drop(p)
def g(store):
    def drop(x): ...
    p = store.owned_proxy([1])
    drop(p)
    print(p)
""",
    "without ownership": """
def f(store, client):
    executor = StoreExecutor(client, store, ownership=False)
    p = store.proxy([1])
    executor.submit(sum, p)
    print(p)
    client.submit(sum, p)
    print(p)
""",
    "unpacked arguments": """
def f(store, pool, ps):
    p = store.owned_proxy([1])
    submit(pool.submit, args=(sum, *ps))
    first, *rest = ps
    drop(p)
""",
    "another name keeps it": """
def f(store):
    p = store.owned_proxy([1])
    q = p
    r = borrow(p)
    del p
    return len(q)
""",
    "an optional borrow": """
def f(store, why):
    p = store.owned_proxy([1])
    r = None
    if why:
        r = borrow(p)
        print(r)
        del r
    m = mut_borrow(p)
""",
    "a generator of its own": """
def f(store):
    p = store.owned_proxy([1])
    yield p
    total = sum(x for x in p)
    match p:
        case [x]:
            return x
        case other:
            drop(other)
""",
    "assertions": """
def f(store, pool):
    p = store.owned_proxy([1])
    assert p == [1], drop(p)
    x = p[0] if p else drop(p)
    print(p if x else None)
""",
    "plain ones": """
def f(store):
    a, b = store.proxy([1]), store.proxy([2])
    p, q = into_owned(a), into_owned(b)
    for x in range(3):
        o = into_owned(store.proxy(x))
""",
    "futures in dicts and tuples": """
def f(store, pool):
    p = store.owned_proxy([1])
    d = {"x": submit(pool.submit, args=(sum, borrow(p)))}
    d["x"].result()
    mut_borrow(p)
    t = (submit(pool.submit, args=(sum, borrow(p))), 1)
    t[0].result()
    mut_borrow(p)
    c = [submit(pool.submit, args=(sum, borrow(p))) for _ in range(3)]
    while c:
        c.pop().result()
    mut_borrow(p)
    c += [submit(pool.submit, args=(sum, borrow(p)))]
    wait(c)
    mut_borrow(p)
    e = []
    e.extend(submit(pool.submit, args=(sum, borrow(p))) for _ in range(3))
    first, *rest = e
    drop(p)
""",
    "a task's result is the next one's argument": """
def f(store, pool):
    p = store.owned_proxy([1])
    for _ in range(3):
        p = submit(pool.submit, args=(sum, p)).result()
    return p
""",
    "tried again": """
def f(store, pool):
    p = store.owned_proxy([1])
    while True:
        try:
            return submit(pool.submit, args=(sum, p))
        except OSError:
            continue
""",
    "one reference, many tasks": """
def f(store, client):
    with StoreExecutor(client, store=store, ownership=True) as executor:
        p = store.owned_proxy([1])
        r = borrow(p)
        futures = [executor.submit(sum, r) for _ in range(10)]
        assert [future.result() for future in futures]
        m = mut_borrow(p)
        executor.submit(list.sort, m).result()
        future = executor.submit(list.copy, p)
        drop(future.result())
""",
    "forgotten where it was moved": """
def f(store, pool, far):
    p = store.owned_proxy([1])
    if far:
        submit(pool.submit, args=(sum, p))
        p = None
    print(p)
    try:
        q = store.owned_proxy([1])
        drop(q)
        q = None
    finally:
        print(q)
""",
    "a callback": """
def f(store, pool):
    p = store.owned_proxy([1])
    future = submit(pool.submit, args=(sum, mut_borrow(p)))
    future.add_done_callback(lambda _: drop(p))
""",
}
