"""A core that lies: whatever bytes its structures hold, answers are bounded and errors are ours."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.qemu.support import CORE_PARAMETERS, NoSymbols, core_id, open_lab
from vringcore.addresses import GuestAddress, HostAddress
from vringcore.errors import VringcoreError
from vringcore.memory.space import AddressSpace, Piece, Range
from vringcore.model.values import Absent, encode
from vringcore.qemu import commandline, machine, memory, ramblocks
from vringcore.qemu.qom import ObjectModel
from vringcore.view.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vringcore.memory.space import HostSpace
    from vringcore.qemu.process import Process

pytestmark = pytest.mark.lab


class Lying(AddressSpace[HostAddress]):
    """A process's memory in which every so many words is another one."""

    name = "damaged memory"

    def __init__(self, truth: HostSpace, seed: int, every: int) -> None:
        self.truth = truth
        self.seed = seed
        self.every = every

    def pieces(self, address: HostAddress, size: int) -> Iterator[Piece]:
        for piece in self.truth.pieces(address, size):
            if piece.data is None:
                yield piece
            else:
                yield Piece(piece.address, piece.size, self._bent(piece.address, piece.data), None)

    def ranges(self) -> Sequence[Range]:
        return self.truth.ranges()

    def _bent(self, address: int, data: bytes) -> bytes:
        result = bytearray(data)
        first = address & -8
        for place in range(first, min(address + len(data), first + 65536), 8):
            chance = random.Random(self.seed << 64 | place)
            if chance.randrange(self.every):
                continue
            number = chance.choice(
                [
                    0,
                    1,
                    (1 << 64) - 1,
                    1 << 63,
                    chance.getrandbits(64),
                    chance.getrandbits(47),
                    place,
                ]
            )
            for at, byte in enumerate(number.to_bytes(8, "little"), place - address):
                if 0 <= at < len(result):
                    result[at] = byte
        return bytes(result)


@pytest.fixture(scope="module", params=CORE_PARAMETERS[:1], ids=core_id)
def sound(request: pytest.FixtureRequest) -> Iterator[Process]:
    process = open_lab(request.param)
    yield process
    process.close()


QUESTIONS: dict[str, Callable[[Views, Process], object]] = {
    "machine type": lambda v, _: machine.machine_type(v, ObjectModel(v)),
    "accelerator": lambda v, _: machine.accelerator(v, ObjectModel(v)),
    "run state": lambda v, _: machine.run_state(v),
    "migration": lambda v, _: machine.migration_status(v),
    "guest RAM": lambda v, _: machine.guest_ram_state(v),
    "command line": lambda v, p: commandline.command_line(v, p.core),
    "name": lambda v, p: commandline.vm_name(v, p.core),
    "UUID": lambda v, p: commandline.vm_uuid(v, p.core),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_about_the_process_never_raises(sound: Process, question: str) -> None:
    """These promise a value or its absence; both must have a JSON form."""
    answers = set()
    for seed in range(60):
        views = _views(sound, seed, 3 if seed % 2 else 12)
        answers.add(encode(QUESTIONS[question](views, sound)))
    assert len(answers) > 1


def test_walks_end_with_our_errors_in_bounded_time(sound: Process) -> None:
    began = time.perf_counter()
    ended = 0
    for seed in range(40):
        views = _views(sound, seed, 40 if seed % 2 else 4)
        objects = ObjectModel(views)
        space = views.address_of("address_space_memory")
        walks: list[Callable[[], object]] = [
            lambda o=objects: list(o.walk()),  # type: ignore[misc]
            lambda o=objects: [o.climb(a) for a in o.instances("iothread")],  # type: ignore[misc]
            lambda v=views: list(ramblocks.ram_blocks(v)),  # type: ignore[misc]
            lambda v=views, s=space: memory.flat_ranges(v, s),  # type: ignore[misc]
            lambda v=views: memory.guest_memory(v).read(GuestAddress(0x1000), 64),  # type: ignore[misc]
            lambda v=views: memory.guest_memory(v).ranges(),  # type: ignore[misc]
        ]
        for walk in walks:
            try:
                walk()
            except VringcoreError:
                ended += 1
    assert ended
    assert time.perf_counter() - began < 60


def test_sound_memory_answers_everything(sound: Process) -> None:
    """The other half of the proof: the questions above do answer when nothing is bent."""
    views = Views(sound.views.space, sound.views.layouts, sound.views.bias, NoSymbols())
    for question in QUESTIONS.values():
        assert not isinstance(question(views, sound), Absent)


def _views(process: Process, seed: int, every: int) -> Views:
    space = Lying(process.views.space, seed, every)
    return Views(space, process.views.layouts, process.views.bias, NoSymbols())
