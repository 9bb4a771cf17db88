"""Escapes text for one line of a terminal or a log."""

from __future__ import annotations


def escaped(text: str) -> str:
    """Return ``text`` with each character that is not printable as Python writes it in a literal.

    That covers line ends, control characters of C0 and C1, bidirectional controls, line and
    paragraph separators, and lone surrogates. Cost: one scan when there is nothing to escape.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def json_escaped(text: str) -> str:
    """Return JSON text with what is not printable inside its strings as ``\\u`` escapes.

    Line ends are kept: in JSON they occur only between values. The value stays the same.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else _json_escape(ord(char)) for char in text
    )


def _json_escape(code: int) -> str:
    if code < 0x1_0000:
        return f"\\u{code:04x}"
    # Source: RFC 8259, section 7: beyond the basic plane as a surrogate pair.
    high, low = divmod(code - 0x1_0000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
