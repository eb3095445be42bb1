"""Floating-point numbers as gdb writes them: all digits that tell two numbers apart."""

from __future__ import annotations

import msgspec


class Format(msgspec.Struct, frozen=True):
    """A binary format: bits of exponent and mantissa, and whether the leading bit is stored.

    Of a ``pair`` they are those of each of two numbers whose sum it is, the larger one first.
    """

    exponent: int
    mantissa: int
    leading: bool = False
    pair: bool = False


_SINGLE = Format(8, 23)
_DOUBLE = Format(11, 52)
_X87 = Format(15, 64, leading=True)
_QUAD = Format(15, 112)
_HALF = Format(5, 10)
_PAIR = Format(11, 52, pair=True)
_POWER = ("ppc64", "ppc64le", "powerpc", "ppc")


def format_of(name: str, size: int, machine: str) -> Format | None:
    """Return the format of a floating-point type, None if it is not known.

    :param name: of the base type, which tells two formats of sixteen bytes apart
    """
    if size == 16 and machine in _POWER and "128" not in name:
        return _PAIR
    if size in (10, 12, 16):
        x86 = machine in ("x86-64", "x86", "i386") and "128" not in name
        return _X87 if x86 else _QUAD if size == 16 else None
    return {2: _HALF, 4: _SINGLE, 8: _DOUBLE}.get(size)


def parts(number: int, form: Format) -> tuple[bool, int, int]:
    """Return sign, exponent and mantissa of a number's bits, as they are stored."""
    mantissa = number & ((1 << form.mantissa) - 1)
    exponent = number >> form.mantissa & ((1 << form.exponent) - 1)
    return bool(number >> (form.mantissa + form.exponent) & 1), exponent, mantissa


def written(number: int, form: Format) -> str:
    """Return a number, given as its bits, with C's ``%g`` and the digits that it takes."""
    if form.pair:
        whole = _sum(number)
        if whole is None:
            return written(number >> 64, _DOUBLE)
        text = _general(abs(whole[0]), whole[1], _DIGITS_OF_PAIR)
        return f"-{text}" if whole[0] < 0 or (not whole[0] and number >> 127) else text
    negative, exponent, mantissa = parts(number, form)
    sign = "-" if negative else ""
    if exponent == (1 << form.exponent) - 1:
        fraction = mantissa & ((1 << (form.mantissa - form.leading)) - 1)
        return f"{sign}nan(0x{_nan(mantissa, form.mantissa)})" if fraction else f"{sign}inf"
    value, power = _scaled(exponent, mantissa, form)
    digits = int(2 + (form.mantissa + (not form.leading)) * 0.30103)
    if form.mantissa <= _DOUBLE.mantissa:
        return f"{sign}{value * 2.0**power:.{digits}g}"
    return sign + _general(value, power, digits)


def truncated(number: int, form: Format) -> int:
    """Return the integer that C's conversion gives, kept within 64 bits as gdb keeps it."""
    if form.pair:
        both = _sum(number)
        return truncated(number >> 64, _DOUBLE) if both is None else _whole(*both)
    negative, exponent, mantissa = parts(number, form)
    if exponent == (1 << form.exponent) - 1:
        infinite = not mantissa & ((1 << (form.mantissa - form.leading)) - 1)
        return -_MOST - 1 if negative and infinite else _MOST
    value, power = _scaled(exponent, mantissa, form)
    return _whole(-value if negative else value, power)


_MOST = (1 << 63) - 1


def _whole(value: int, power: int) -> int:
    """Return ``value * 2**power`` without its fraction, within 64 bits."""
    whole = abs(value) << min(power, 64) if power > 0 else abs(value) >> -power
    return max(-whole, -_MOST - 1) if value < 0 else min(whole, _MOST)


_DIGITS_OF_PAIR = 33
"""For the 106 bits of both: what gdb shows."""


def _sum(number: int) -> tuple[int, int] | None:
    """Return what the two numbers of a pair make, as an integer and a power of two.

    None where the first is infinite or no number: then it alone counts.
    """
    found = []
    for half in (number >> 64, number & ((1 << 64) - 1)):
        negative, exponent, mantissa = parts(half, _DOUBLE)
        if exponent == (1 << _DOUBLE.exponent) - 1:
            return None
        value, power = _scaled(exponent, mantissa, _DOUBLE)
        found.append((-value if negative else value, power))
    least = min(power for _, power in found)
    return sum(value << (power - least) for value, power in found), least


def _scaled(exponent: int, mantissa: int, form: Format) -> tuple[int, int]:
    """Return a number as an integer and a power of two."""
    bias = (1 << (form.exponent - 1)) - 1
    bits = form.mantissa - form.leading
    if exponent and not form.leading:
        mantissa |= 1 << form.mantissa
    return mantissa, max(exponent, 1) - bias - bits


def _nan(mantissa: int, bits: int) -> str:
    """Return the mantissa in pieces of 32 bits, the first one short and unpadded."""
    rest = (bits - 1) // 32 * 32
    text = f"{mantissa >> rest:x}"
    while rest:
        rest -= 32
        text += f"{mantissa >> rest & 0xFFFFFFFF:08x}"
    return text


def _general(value: int, power: int, digits: int) -> str:
    """Return ``value * 2**power`` as C's ``%.{digits}Lg`` writes it, rounded once."""
    if not value:
        return "0"
    from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal

    context = Context(digits, ROUND_HALF_EVEN, MIN_EMIN, MAX_EMAX)
    factor = Decimal(1 << abs(power))
    whole = Decimal(value)
    number = context.multiply(whole, factor) if power >= 0 else context.divide(whole, factor)
    exponent = number.adjusted()
    figures = "".join(map(str, number.as_tuple().digits)).rstrip("0")
    if exponent < -4 or exponent >= digits:
        point = figures[:1] + ("." + figures[1:] if len(figures) > 1 else "")
        return f"{point}e{exponent:+03d}"
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + figures
    figures = figures.ljust(exponent + 1, "0")
    whole_part, fraction = figures[: exponent + 1], figures[exponent + 1 :]
    return whole_part + ("." + fraction if fraction else "")
