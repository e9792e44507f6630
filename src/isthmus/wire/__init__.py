"""Protocols as pure state machines: no event loop, no socket, no thread, no clock.

Bytes and the time go in, messages and decisions come out; whoever uses a machine does the moving. So loss,
reordering and crashes are simulated (`isthmus.testing.simulator`) and not waited for.
"""
