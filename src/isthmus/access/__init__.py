"""Where other programs' servers are and how to log in: shared by connectors and brokers."""
