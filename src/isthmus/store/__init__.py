"""Stores: Python objects over a connector, and proxies of them."""
