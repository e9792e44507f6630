"""The one command, `isthmus`."""
