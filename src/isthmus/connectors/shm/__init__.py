"""Objects in shared memory, for all processes of one user on one host.

`session` is what one open connector has: `area` is the folder and who has it open, `ledger` the budget,
`segment` packs small objects, `pool` keeps warm memory for the next large one, `spill` is where objects go
when memory is full.
"""

from isthmus.connectors.shm.connector import (
    SharedMemoryConnector,
    SharedMemoryKey,
    SharedMemorySpec,
)

__all__ = ["SharedMemoryConnector", "SharedMemoryKey", "SharedMemorySpec"]
