"""Compares a partial answer with the whole one: what is there must be right, the rest Absent."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from vringcore.model.values import encode

KEYS = {
    "devices": "address",
    "queues": "index",
    "in_flight": "head",
    "disks": "unit",
    "modules": "path",
    "chains": "head",
    "threads": "lwp",
    "coroutines": "address",
    "event_loops": "address",
    "handlers": "address",
    "bottom_halves": "address",
    "timers": "address",
    "locks": "address",
    "backends": "backend.address",
    "nodes": "address",
    "tracked": "address",
    "members": "address",
    "throttle_groups": "address",
    "engines": "address",
    "elements": "address",
    "slots": "slot",
    "jobs": "address",
    "vcpus": "index",
    "interrupts": "device",
    "vectors": "vector",
}
"""Lists of things that can be missing one by one, and what each is known by."""

ABOUT_THE_READING = {"limits", "complete", "guest_ram", "size", "path", "file", "chain_end", "end"}
ABOUT_THE_READING |= {"frames_end", "frames_end_detail"}
"""What says how far the reading went."""

WAYS = {"qdev-tree", "vm-state-handlers", "qom-tree", "search"}
"""Ways to a device or a coroutine that lead there where others are lost."""

BY_ADDRESS = re.compile(r"\bat 0x[0-9a-f]+|#\d+")
"""How a thing is called whose name is lost."""

NOT_KNOWN = {
    "kind": "unknown",
    "transport": "unknown",
    "ring_owner": "unknown",
    "ring_state": "unreadable",
}
"""Words that say of themselves that the answer is not known."""


LOWER_BOUNDS = {"idle_coroutines", "newest_time_ns"}
"""What is counted or found: the less there is to look at, the less it is."""

SUBSETS = {"marks", "used_by"}
"""What is said of the queues that are there: of an index that is absent, of a queue that is."""


def plain(document: msgspec.Struct) -> Any:
    """Return a document as its JSON says it."""
    return json.loads(encode(document))


def wrong(part: Any, whole: Any, path: str = "") -> list[str]:
    """Return a line for every value of a partial document that is not what the whole one has."""
    if not path:
        part, whole = _by_address(part), _by_address(whole)
    name = path.rpartition(".")[2]
    if name in ABOUT_THE_READING:
        return []
    if is_absent(part):
        # What the compiler left out is no loss: the whole core says the same.
        lost = part["absent"] != "optimized-out" or part == whole
        return [] if lost else [_line(path, part, whole)]
    if isinstance(part, dict) and isinstance(whole, dict):
        return _wrong_object(part, whole, path)
    if isinstance(part, list) and isinstance(whole, list):
        return _wrong_list(part, whole, path, name)
    return [] if part == whole or _may_differ(name, part, whole) else [_line(path, part, whole)]


def absences(document: Any, path: str = "") -> dict[str, Any]:
    """Return every Absent of a document by its path."""
    if is_absent(document):
        return {path: document}
    found: dict[str, Any] = {}
    if isinstance(document, dict):
        for key, value in document.items():
            found.update(absences(value, f"{path}.{key}"))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            found.update(absences(value, f"{path}[{index}]"))
    return found


def _by_address(report: Any) -> Any:
    """Return a report in which a device is referred to by its address, not by its place.

    A device that is lost moves those behind it up.
    """
    if not isinstance(report, dict) or not isinstance(report.get("devices"), list):
        return report
    addresses = [device["address"] for device in report["devices"]]

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(each) for each in value]
        if not isinstance(value, dict):
            return value
        found = {key: named(each) for key, each in value.items()}
        if isinstance(index := found.get("device"), int):
            found["device"] = addresses[index]
        return found

    return named(report)


def is_absent(value: Any) -> bool:
    """Tell whether a JSON value stands for an Absent."""
    return isinstance(value, dict) and "absent" in value


def _may_differ(name: str, part: Any, whole: Any) -> bool:
    """Tell whether a value is right as far as it goes, though not the whole one's."""
    if name == "unidentified":  # what was not found in part may be found in whole
        return isinstance(part, int) and isinstance(whole, int) and part >= whole
    if name == "summary":
        return set(re.findall(r"\d+", part)) <= set(re.findall(r"\d+", whole))
    if name in LOWER_BOUNDS:
        return bool(part <= whole)
    if name in ("role", "role_name", "cfa", "lwp", "queue") and part is None:
        return True  # of a thread, a frame, a loop or vCPU, a file descriptor
    if name == "owner" or name.startswith("parents["):
        return part == "" or BY_ADDRESS.search(part) is not None
    if name == "role":  # which of several, or what the last is for, follows from their number
        return bool(whole.startswith(part) or part.startswith("queue "))
    return bool(part == NOT_KNOWN.get(name, NotImplemented))


def _wrong_object(part: dict[str, Any], whole: dict[str, Any], path: str) -> list[str]:
    lines = [f"{path}.{key}: {part[key]!r}, not there in whole" for key in part.keys() - whole]
    common = part.keys() & whole.keys()
    if re.search(r"\.devices\[\w+\]$", path):
        common -= {"index"}  # its place among those that were found
    if part.get("exact") is False:
        # A lower bound of an age: the less is known, the lower it is.
        common -= {"nanoseconds", "exact"}
        if part["nanoseconds"] > whole["nanoseconds"]:
            lines.append(_line(path, part, whole))
    for key in common:
        lines += wrong(part[key], whole[key], f"{path}.{key}")
    descriptors = part.get("descriptors")
    if isinstance(descriptors, list) and len(descriptors) < len(whole["descriptors"]):
        end = part.get("chain_end", part.get("end"))
        if end == "complete":
            lines.append(f"{path}: a chain that is cut and says complete")
    return lines


def _wrong_list(part: list[Any], whole: list[Any], path: str, name: str) -> list[str]:
    if name == "found_by":
        return [] if set(part) <= WAYS | set(whole) else [_line(path, part, whole)]
    if name in SUBSETS:
        return [] if set(part) <= set(whole) else [_line(path, part, whole)]
    if name == "waits_in":
        return [_line(path, each, whole) for each in part if each not in whole]
    if name == "frames":
        # Those behind a guess are guesses too; where a stack is lost there are no more.
        kinds = [each["how"] for each in part]
        end = kinds.index("heuristic") if "heuristic" in kinds else len(part)
        part, whole = part[:end], whole[:end]
    if name in KEYS:
        by_key = {_key(name, each): each for each in whole}
        lines = []
        for each in part:
            known = by_key.get(_key(name, each))
            where = f"{path}[{_key(name, each)}]"
            lines += wrong(each, known, where) if known else [f"{where}: not in whole"]
        return lines
    if len(part) != len(whole) and (name != "descriptors" or len(part) > len(whole)):
        return [f"{path}: {len(part)} elements, in whole {len(whole)}"]
    lines = []
    for index, (mine, its) in enumerate(zip(part, whole, strict=False)):
        lines += wrong(mine, its, f"{path}[{index}]")
    return lines


def _key(name: str, each: Any) -> str:
    for step in KEYS[name].split("."):
        each = each[step]
    return json.dumps(each).strip('"')


def _line(path: str, part: Any, whole: Any) -> str:
    texts = [json.dumps(value) for value in (part, whole)]
    mine, its = (text if len(text) < 100 else text[:97] + "..." for text in texts)
    return f"{path}: {mine}, in whole {its}"
