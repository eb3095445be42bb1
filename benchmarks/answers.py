"""What vringcore, gdb and drgn answered, brought to one form and compared.

The form: by the address of each virtio device a list of its queues, each a table from C path
(``vring.num``) to integer.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Queue = dict[str, int]
Answer = dict[int, list[Queue]]


def answers_of(output: str) -> list[Answer]:
    """Return the answer for each core, from what a program printed.

    :raises ValueError: if the output holds none
    """
    lines = [line.removeprefix("QUEUES ") for line in output.splitlines()]
    documents = [json.loads(line) for line in lines if line.startswith(("{", "[["))]
    if not documents:
        raise ValueError(f"no answer in {output[:200]!r}")
    return [_answer(document) for document in documents]


def times_of(output: str) -> list[float]:
    """Return the milliseconds that a program says each core took."""
    lines = output.splitlines()
    return [float(line.removeprefix("TOOK ")) for line in lines if line.startswith("TOOK ")]


def difference(answers: Mapping[str, Answer]) -> str:
    """Return how the first answer that differs from the first one does; "" if all are equal."""
    (first, expected), *others = answers.items()
    for name, answer in others:
        if answer == expected:
            continue
        if answer.keys() != expected.keys():
            return f"{name} has the devices {sorted(answer)}, {first} {sorted(expected)}"
        for device, queues in expected.items():
            if len(queues) != len(answer[device]):
                return f"{name} has {len(answer[device])} queues, {first} {len(queues)}"
            for index, (one, two) in enumerate(zip(queues, answer[device], strict=True)):
                for path in sorted(one.keys() | two.keys()):
                    if one.get(path) != two.get(path):
                        return (
                            f"{device:#x}, queue {index}, {path}: "
                            f"{first} has {one.get(path)}, {name} {two.get(path)}"
                        )
    return ""


def _answer(document: Any) -> Answer:
    if isinstance(document, dict):
        return {
            int(device["address"], 16): [dict(_leaves(q["fields"])) for q in device["queues"]]
            for device in document["devices"]
        }
    return {address: [dict(_leaves(queue)) for queue in queues] for address, queues in document}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, dict) and not _is_scalar(value):
        for name, part in value.items():
            yield from _leaves(part, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _leaves(part, f"{path}[{index}]")
    else:
        yield path, _number(value)


def _is_scalar(value: dict[str, Any]) -> bool:
    """Tell a pointer or enumerator of vringcore's documents from a structure."""
    return value.keys() <= {"address", "symbol", "offset"} or value.keys() == {"value", "name"}


def _number(value: Any) -> int:
    """Return a scalar as integer; a value that is absent is a ValueError, never a number."""
    if isinstance(value, dict):
        value = value["address"] if "address" in value else value["value"]
    return int(value, 0) if isinstance(value, str) else int(value)
