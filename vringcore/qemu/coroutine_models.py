"""Coroutines as reports show them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from vringcore.model.coroutines import Coroutine
from vringcore.model.values import Absent, Address
from vringcore.qemu import engines
from vringcore.qemu.absence import attempt
from vringcore.qemu.aio_structs import CoroutineUContext
from vringcore.qemu.block_loops import event_loop_addresses
from vringcore.qemu.coroutine_contexts import coroutine_at, coroutines_by_stack
from vringcore.qemu.coroutine_lead import Lead
from vringcore.qemu.coroutine_leads import all_leads, leads_of
from vringcore.qemu.coroutine_running import Running, running
from vringcore.qemu.threads import frames_of

if TYPE_CHECKING:
    from vringcore.model.report import Limitation
    from vringcore.model.requests import Waiting
    from vringcore.model.threads import Frame
    from vringcore.qemu.block_structs import Coroutine as Raw
    from vringcore.qemu.process import Process
    from vringcore.unwind.frames import Backtrace

MAX_COROUTINES = 20_000
MAX_LEADS = 100_000

SUSPENDED = "suspended"
RUNNING = "running"
CALLING = "calling"
NOT_STARTED = "not-started"

SWITCH = "qemu_coroutine_switch"
TRAMPOLINE = "coroutine_trampoline"


def coroutine_models(
    process: Process, limits: list[Limitation]
) -> tuple[tuple[Coroutine, ...], int]:
    """Return the coroutines that have something to do, in the order in which they were found.

    To them the number of those that have ended and wait in QEMU's pool to be used again. What
    could not be read is added to ``limits``.
    """
    census = _Census(process)
    models, lost = process.block.noting(census.read)
    limits += lost
    return models, census.idle


class _Census:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._layer = process.block
        self._found: dict[int, Raw] = {}
        self._leads: dict[int, list[Lead]] = {}
        self._running: Running = running(process)
        self._callers: set[int] = set()
        self.idle = 0

    def read(self) -> tuple[Coroutine, ...]:
        """Follow all leads, then search; return those that are not idle."""
        for lead in islice(all_leads(self._process), MAX_LEADS):
            self._add(lead)
        for address in self._running.threads:
            self._add(Lead(address, "thread"))
        self._search()
        self._follow()
        self._add_engines()
        self._callers = {int(raw.caller) for raw in self._found.values()}
        models = [self._model(address) for address in list(self._found)]
        return tuple(model for model in models if model is not None)

    # Finding

    def _add(self, lead: Lead) -> None:
        address = lead.coroutine
        if address not in self._found:
            raw = coroutine_at(self._process, address)
            if raw is None or len(self._found) >= MAX_COROUTINES:
                why = "too many" if raw is not None else f"there is none at {address:#x}"
                self._layer.limit(f"a coroutine that a {lead.found_by} names", why)
                return
            self._found[address] = raw
        known = self._leads.setdefault(address, [])
        if lead not in known:
            known.append(lead)

    def _search(self) -> None:
        walk = coroutines_by_stack(self._process)
        for address in self._layer.keep("coroutines by their stacks", walk):
            if address not in self._found and coroutine_at(self._process, address) is not None:
                self._add(Lead(address, "search", certain=False))

    def _follow(self) -> None:
        """Go from coroutines to those that they woke, were entered by, or are tasks of."""
        done: set[int] = set()
        while len(done) < len(self._found):
            for address in [each for each in self._found if each not in done]:
                done.add(address)
                raw = self._found[address]
                if raw.caller and raw.caller not in self._running.leaders:
                    self._add_if_any(Lead(int(raw.caller), "caller"))
                walk = leads_of(self._process, raw, self._name(raw.entry))
                for lead in self._layer.keep("what a coroutine leads to", walk):
                    self._add_if_any(lead)

    def _add_if_any(self, lead: Lead) -> None:
        if lead.coroutine in self._found or coroutine_at(self._process, lead.coroutine):
            self._add(lead)

    def _add_engines(self) -> None:
        """Find where coroutines wait for the kernel or a worker thread."""
        views, layer = self._process.views, self._layer
        kernel = engines.KernelEngines(views)
        for address in list(self._found):
            walk = kernel.waiting(address)
            for waiting in layer.keep("requests in linux-aio and io_uring", walk):
                self._add(Lead(address, waiting.place, waiting))
        names = {node.address: node.name for node in layer.nodes()}
        for loop in event_loop_addresses(self._process):
            walk_ = engines.in_worker_threads(views, loop, names, layer.callers)
            for address, waiting in layer.keep("requests in worker threads", walk_):
                if address in self._found:
                    self._add(Lead(address, waiting.place, waiting))

    # Showing

    def _model(self, address: int) -> Coroutine | None:
        """Return a coroutine as the model shows it, None if it is idle."""
        raw, leads = self._found[address], self._leads[address]
        is_in_thread = address in self._running.threads
        if address in self._running.innermost or (raw.caller and not self._is_calling(address)):
            stack: Backtrace | Absent | None = None
            state = RUNNING
        else:
            stack = attempt(lambda: self._process.backtraces.of_coroutine(address))
            state = CALLING if is_in_thread or raw.caller else SUSPENDED
        frames = () if stack is None or isinstance(stack, Absent) else self._frames(stack)
        if state == SUSPENDED and frames and frames[0].function == TRAMPOLINE:
            if not any(lead.certain for lead in leads):
                self.idle += 1
                return None
            state = NOT_STARTED
        end, detail = _end(stack)
        return Coroutine(
            address=Address(address),
            entry=self._entry(raw),
            state=state,
            event_loop=attempt(lambda: Address(raw.ctx) if raw.ctx else None),
            found_by=tuple(dict.fromkeys(lead.found_by for lead in leads)),
            caller=attempt(lambda: self._caller(raw)),
            waits_in=_places(leads),
            locks_held=attempt(lambda: raw.locks_held),
            frames=frames,
            frames_end=end,
            frames_end_detail=detail,
            lwp=self._running.threads.get(address),
        )

    def _is_calling(self, address: int) -> bool:
        """Tell whether a coroutine entered another one that was found."""
        return address in self._callers

    def _caller(self, raw: Raw) -> Address | None:
        if not raw.caller or self._is_leader(raw.caller):
            return None
        return Address(raw.caller)

    def _is_leader(self, address: int) -> bool:
        """Tell whether what looks like a coroutine stands for a thread's own stack.

        Where the threads' variables are not in the core that is known by its having no stack.
        """
        leaders = self._running.leaders
        return address in leaders or not self._process.views.at(CoroutineUContext, address).stack

    def _entry(self, raw: Raw) -> str | Absent | None:
        if not raw.entry:
            return None
        return self._name(raw.entry) or Absent("no-symbol", Address(raw.entry))

    def _name(self, function: int) -> str | None:
        symbol = self._process.symbols.lookup(function) if function else None
        return None if symbol is None else symbol[0]

    def _frames(self, stack: Backtrace) -> tuple[Frame, ...]:
        """Return the frames without the switch itself, which every sleeping coroutine is in."""
        frames = tuple(frames_of(self._process, stack))
        own = next((n for n, frame in enumerate(frames) if not frame.inlined), 0)
        if frames and frames[own].function == SWITCH:
            return frames[own + 1 :]
        return frames


def _places(leads: list[Lead]) -> tuple[Waiting, ...]:
    """Return where a coroutine waits, from the outermost place inwards, each once."""
    ordered = sorted(leads, key=lambda lead: lead.rank)
    return tuple(dict.fromkeys(lead.waiting for lead in ordered if lead.waiting is not None))


def _end(stack: Backtrace | Absent | None) -> tuple[str, str]:
    if stack is None:
        return RUNNING, ""
    if isinstance(stack, Absent):
        return stack.reason, stack.hint
    return stack.end, stack.detail
