"""Absence cannot pass as a number."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from vringcore.errors import AbsentError
from vringcore.model.values import Absent, Address, encode

ABSENT: Any = Absent("not-dumped", Address(0x1000), "set dump-guest-core=on")

UNARY: list[Callable[[Any], object]] = [
    bool, int, float, complex, operator.index, operator.not_, operator.neg, operator.pos,
    operator.invert, abs, round, math.trunc, math.floor, math.ceil, len, iter, list,
    "{:x}".format, "{:>8}".format,
]  # fmt: skip
ARITHMETIC: list[Callable[[Any, Any], object]] = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    divmod, operator.pow, operator.and_, operator.or_, operator.xor, operator.lshift,
    operator.rshift, operator.lt, operator.le, operator.gt, operator.ge,
]  # fmt: skip
BINARY = [*ARITHMETIC, operator.getitem, operator.contains]


@pytest.mark.parametrize("use", UNARY)
def test_an_absent_value_is_no_number_and_no_truth(use: Callable[[Any], object]) -> None:
    with pytest.raises(AbsentError, match="not-dumped"):
        use(ABSENT)


@pytest.mark.parametrize("use", BINARY)
def test_an_absent_value_does_not_compute(use: Callable[[Any, Any], object]) -> None:
    with pytest.raises(AbsentError):
        use(ABSENT, 1)


@pytest.mark.parametrize("use", ARITHMETIC)
def test_nor_on_the_right_hand_side(use: Callable[[Any, Any], object]) -> None:
    with pytest.raises(AbsentError):
        use(1, ABSENT)


def test_an_absent_value_is_not_zero() -> None:
    assert ABSENT != 0
    assert 0 != ABSENT  # noqa: SIM300 - both sides
    assert Absent("not-dumped", Address(0x1000), "set dump-guest-core=on") == ABSENT
    assert Absent("not-dumped", Address(0x2000), "set dump-guest-core=on") != ABSENT


def test_an_absent_value_can_be_shown_and_kept_in_sets() -> None:
    assert "not-dumped" in f"{ABSENT}"
    assert "not-dumped" in repr(ABSENT)
    assert len({ABSENT, Absent("corrupt")}) == 2


def test_json_of_an_absent_value() -> None:
    assert msgspec.json.decode(encode(ABSENT)) == {
        "absent": "not-dumped",
        "address": "0x1000",
        "hint": "set dump-guest-core=on",
    }
    assert msgspec.json.decode(encode(Absent("corrupt"))) == {"absent": "corrupt"}


def test_an_address_is_an_integer_that_reads_as_hexadecimal() -> None:
    assert Address(255) == 255
    assert repr(Address(255)) == str(Address(255)) == "0xff"
    assert Address(255) + 1 == 256
    assert encode([Address(0), 0]) == b'["0x0",0]'
