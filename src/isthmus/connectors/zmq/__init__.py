"""Objects in the memory of the node that made them, served over ZeroMQ: extra ``zmq``."""

from isthmus.connectors.zmq.access import ZmqSpec
from isthmus.connectors.zmq.connector import ZmqConnector, ZmqKey

__all__ = ["ZmqConnector", "ZmqKey", "ZmqSpec"]
