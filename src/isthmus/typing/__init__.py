"""Types and a mypy plugin for code that takes proxies."""
