from __future__ import annotations

import pytest

from isthmus.errors import LocalProtocolError
from isthmus.wire.envelope import Envelope, Kind, call_id, decode, encode
from isthmus.wire.mailbox import Mailbox


class Disk(dict[bytes, bytes]):
    def commit(self, mailbox: Mailbox) -> None:
        assert mailbox.unsaved
        changes = mailbox.changes()
        self.update(changes.puts)
        for key in changes.drops:
            del self[key]
        mailbox.committed(changes)
        assert not mailbox.unsaved

    def open(self, identity: bytes, epoch: int) -> Mailbox:
        mailbox = Mailbox(identity, epoch, durable=True)
        mailbox.restore(self.items())
        return mailbox


def carry(source: Mailbox, to: Mailbox) -> list[Envelope]:
    """Bring what may leave from one to the other, through bytes; return what it is to handle."""
    out = [decode(encode(envelope)) for envelope in source.ready(to.identity)]
    out += [decode(encode(ack)) for peer, ack in source.acks() if peer == to.identity]
    return [envelope for message in out for envelope in to.receive(message)]


def client() -> Mailbox:
    return Mailbox(b"client", 1, durable=False)


def asked(who: Mailbox, to: bytes, request: int = 7) -> Envelope:
    return who.outbox.send(to, [b"do"], Kind.REQUEST, request=request)


def test_nothing_leaves_before_the_commit() -> None:
    me, disk = client(), Disk()
    agent = disk.open(b"agent", 1)
    asked(me, b"agent")
    (request,) = carry(me, agent)
    agent.reply(request, [b"done"])
    agent.done(request)
    assert carry(agent, me) == []
    assert len(me.outbox.unacknowledged(b"agent")) == 1
    disk.commit(agent)
    (reply,) = carry(agent, me)
    assert (reply.kind, reply.request, reply.payload) == (Kind.REPLY, 7, (b"done",))
    assert me.outbox.unacknowledged(b"agent") == []


def test_what_was_not_committed_comes_again_and_what_was_does_not() -> None:
    me, disk = client(), Disk()
    agent = disk.open(b"agent", 1)
    asked(me, b"agent", 1)
    asked(me, b"agent", 2)
    first, second = carry(me, agent)
    for request in (first, second):
        agent.reply(request, [b""])
        agent.done(request)
        if request is first:
            disk.commit(agent)
    agent = disk.open(b"agent", 2)
    me.resend(b"agent")
    assert [envelope.request for envelope in carry(me, agent)] == [2]
    assert [envelope.request for envelope in carry(agent, me)] == [1]


def test_a_commit_that_is_under_way_does_not_hold_what_came_after() -> None:
    me, agent = client(), Disk().open(b"agent", 1)
    asked(me, b"agent", 1)
    asked(me, b"agent", 2)
    first, second = carry(me, agent)
    agent.done(first)
    changes = agent.changes()
    agent.done(second)
    agent.committed(changes)
    carry(agent, me)
    assert [envelope.request for envelope in me.outbox.unacknowledged(b"agent")] == [2]


def test_a_request_is_joined_while_it_runs_and_answered_from_the_outbox_after() -> None:
    me, disk = client(), Disk()
    agent = disk.open(b"agent", 1)
    asked(me, b"agent")
    (request,) = carry(me, agent)
    reborn = Mailbox(b"client", 2, durable=False)
    asked(reborn, b"agent")  # the same id: a repeated handling asks again
    assert carry(reborn, agent) == []
    agent.reply(request, [b"once"])
    agent.done(request)
    disk.commit(agent)
    third = Mailbox(b"client", 3, durable=False)
    asked(third, b"agent")
    agent = disk.open(b"agent", 2)
    assert carry(third, agent) == []
    disk.commit(agent)
    (reply,) = carry(agent, third)
    assert reply.payload == (b"once",)
    assert third.outbox.unacknowledged(b"agent") == []


def test_the_answer_to_a_call_is_kept_for_the_handling_that_makes_it_again() -> None:
    me, caller_disk, callee_disk = client(), Disk(), Disk()
    caller, callee = caller_disk.open(b"caller", 1), callee_disk.open(b"callee", 1)
    asked(me, b"caller")
    (parent,) = carry(me, caller)
    number, early = caller.call(parent, 0, b"callee", [b"sub"])
    assert (number, early) == (call_id(7, 0), [])
    (call,) = carry(caller, callee)
    assert (call.root, call.chain) == (7, 7)
    callee.reply(call, [b"sub done"])
    callee.done(call)
    callee_disk.commit(callee)

    caller = caller_disk.open(b"caller", 2)  # died before its commit
    assert carry(callee, caller) == []
    me.resend(b"caller")
    (parent,) = carry(me, caller)
    _, early = caller.call(parent, 0, b"callee", [b"sub"])
    assert [answer.payload for answer in early] == [(b"sub done",)]
    assert carry(caller, callee) == []
    caller.reply(parent, [b"all done"])
    caller.done(parent)
    caller_disk.commit(caller)
    assert carry(caller, callee) == []
    assert callee.outbox.unacknowledged(b"caller") == []


def test_an_answer_waits_until_its_call_is_acknowledged() -> None:
    me, caller, callee = client(), Disk().open(b"caller", 1), client()
    callee = Mailbox(b"callee", 1, durable=False)
    asked(me, b"caller")
    (parent,) = carry(me, caller)
    caller.call(parent, 0, b"callee", [b"sub"])
    (call,) = carry(caller, callee)
    callee.reply(call, [b"sub done"])
    (reply,) = callee.ready(b"caller")
    assert caller.receive(reply) == []
    callee.done(call)
    ((_, ack),) = callee.acks()
    assert [answer.payload for answer in caller.receive(ack)] == [(b"sub done",)]


def test_an_answer_that_nobody_waited_for_is_taken_off() -> None:
    me, disk = client(), Disk()
    caller, callee = disk.open(b"caller", 1), Mailbox(b"callee", 1, durable=False)
    asked(me, b"caller")
    (parent,) = carry(me, caller)
    caller.call(parent, 0, b"callee", [b"sub"])
    caller.done(parent)  # it gave up
    (call,) = carry(caller, callee)
    callee.reply(call, [b"late"])
    callee.done(call)
    assert carry(callee, caller) == []
    disk.commit(caller)
    carry(caller, callee)
    assert callee.outbox.unacknowledged(b"caller") == []


def test_answers_that_nobody_will_ask_for_again_expire() -> None:
    disk, callee = Disk(), Mailbox(b"callee", 1, durable=False)
    call = Envelope(Kind.REQUEST, b"caller", 1, True, 1, request=9, chain=3, deadline=5000)
    (call,) = callee.receive(call)
    callee.reply(call, [b"late"])
    caller = disk.open(b"caller", 2)
    assert carry(callee, caller) == []
    caller.expire(4999)
    disk.commit(caller)
    carry(caller, callee)
    assert len(callee.outbox.unacknowledged(b"caller")) == 1
    caller.expire(5000)
    disk.commit(caller)
    carry(caller, callee)
    assert callee.outbox.unacknowledged(b"caller") == []


def test_calls_have_ids_of_their_own() -> None:
    me, caller = client(), Disk().open(b"caller", 1)
    asked(me, b"caller")
    (parent,) = carry(me, caller)
    caller.call(parent, 0, b"callee", [b""])
    with pytest.raises(LocalProtocolError, match="call 0: made before"):
        caller.call(parent, 0, b"callee", [b""])
    (told,) = caller.receive(Envelope(Kind.TELL, b"x", 1, True, 1))
    with pytest.raises(LocalProtocolError, match="without a request id"):
        caller.call(told, 0, b"callee", [b""])


def test_items_leave_at_once_and_the_answer_after_the_commit() -> None:
    me, disk = client(), Disk()
    agent = disk.open(b"agent", 1)
    asked(me, b"agent")
    (request,) = carry(me, agent)
    for number in range(3):
        agent.send_item(request, number, [b"%d" % number])
    assert [(e.kind, e.item) for e in carry(agent, me)] == [(Kind.ITEM, n) for n in range(3)]
    agent.reply(request, [b""])
    agent.done(request)
    assert carry(agent, me) == []
    disk.commit(agent)
    assert [e.kind for e in carry(agent, me)] == [Kind.REPLY]


def test_a_stream_longer_than_any_window_answers_a_call() -> None:
    me, disk = client(), Disk()
    caller, callee = disk.open(b"caller", 1), Mailbox(b"callee", 1, durable=False)
    asked(me, b"caller")
    (parent,) = carry(me, caller)
    caller.call(parent, 0, b"callee", [b"stream"])
    (call,) = carry(caller, callee)
    got: list[int] = []
    for number in range(1000):
        callee.send_item(call, number, [b""])
        if number % 100 == 99:
            got += [envelope.item for envelope in carry(callee, caller)]
            disk.commit(caller)
            carry(caller, callee)
    callee.reply(call, [b""], items=1000)
    callee.done(call)
    assert [(e.kind, e.item) for e in carry(callee, caller)] == [(Kind.REPLY, 1000)]
    assert got == list(range(1000))


def test_items_that_nobody_asked_for_are_dropped() -> None:
    caller, callee = Disk().open(b"caller", 2), Mailbox(b"callee", 1, durable=False)
    call = Envelope(Kind.REQUEST, b"caller", 1, True, 1, request=9, chain=3)
    (call,) = callee.receive(call)
    callee.send_item(call, 0, [b""])
    assert carry(callee, caller) == []
    assert caller.inbox.unhandled == 0


def test_a_superseded_peer_is_refused_from_the_moment_that_is_said() -> None:
    me, agent = client(), Mailbox(b"agent", 1, durable=False)
    asked(me, b"agent")
    (request,) = carry(me, agent)
    agent.reply(request, [b"stale"])
    agent.done(request)
    me.meet(b"agent", 2)
    assert carry(agent, me) == []
    assert len(me.outbox.unacknowledged(b"agent")) == 1
    successor = Mailbox(b"agent", 2, durable=False)
    assert [e.request for e in carry(me, successor)] == [7]


def test_storage_is_left_clean_when_all_is_acknowledged_and_a_peer_forgotten() -> None:
    me, disk = client(), Disk()
    agent = disk.open(b"agent", 1)
    for number in range(1, 20):
        asked(me, b"agent", number)
    for request in carry(me, agent):
        agent.reply(request, [b""])
        agent.done(request)
    disk.commit(agent)
    for reply in carry(agent, me):
        me.done(reply)
    carry(me, agent)
    disk.commit(agent)
    assert len(disk) == 2  # how far the two numberings are
    assert sum(map(len, disk.values())) < 100
    agent.forget(b"client")
    disk.commit(agent)
    assert disk == {}
    agent.outbox.send(b"client", [b"again"])
    disk.commit(agent)
    assert len(disk) == 2


def test_forgetting_a_peer_returns_what_it_never_took() -> None:
    me = client()
    asked(me, b"agent")
    assert [envelope.request for envelope in me.forget(b"agent")] == [7]
    assert not me.tick(b"agent")
