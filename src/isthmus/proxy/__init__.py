"""Lazy, transparent object proxies."""
