"""Bytes and seconds as people read them."""

from __future__ import annotations

__all__ = ["age_text", "bytes_text", "deadline_text", "seconds_text"]


def bytes_text(count: float) -> str:
    """Return a byte count with three significant digits and a decimal unit."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{_three_digits(value)} {unit}"


def seconds_text(seconds: float) -> str:
    """Return a duration with three significant digits, in s, ms or µs."""
    if abs(seconds) >= 0.9995:
        return f"{_three_digits(seconds)} s"
    if abs(seconds) >= 0.9995e-3:
        return f"{_three_digits(seconds * 1e3)} ms"
    return f"{_three_digits(seconds * 1e6)} µs"


def age_text(seconds: float) -> str:
    """Return an age in its two largest units."""
    left = max(0, int(seconds))
    if left < 60:
        return f"{left} s"
    if left < 3600:
        return f"{left // 60} min"
    if left < 86400:
        return f"{left // 3600} h {left % 3600 // 60} min"
    return f"{left // 86400} d {left % 86400 // 3600} h"


def deadline_text(until: float | None, now: float) -> str:
    """Return how far a deadline in Unix time is away; a dash for none."""
    if until is None:
        return "-"
    return f"in {age_text(until - now)}" if until >= now else f"overdue {age_text(now - until)}"


def _three_digits(value: float) -> str:
    size = abs(value)
    return f"{value:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"
