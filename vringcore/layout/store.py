"""The layouts of every build met, shared by all cores that are opened with one store."""

from __future__ import annotations

from _thread import RLock  # `threading` costs more to import than a bundle to read
from typing import TYPE_CHECKING, Any

from vringcore.layout.bundle import Bundle
from vringcore.layout.cache import LayoutCache
from vringcore.layout.provider import Layouts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.layout.protocol import Provider


class LayoutStore:
    """The layouts of every build met, shared by all cores that are opened with it.

    :param cache: where bundles are kept between runs; None keeps them in memory only
    """

    def __init__(self, cache: LayoutCache | None = None) -> None:
        self._cache = cache
        self._lock = RLock()
        self._builds: dict[str, Layouts] = {}

    @classmethod
    def default(cls) -> LayoutStore:
        """Return a store over the user's cache directory."""
        return cls(LayoutCache.default())

    def layouts(
        self,
        build_id: str,
        providers: Iterable[Provider] = (),
        **facts: Any,
    ) -> Layouts:
        """Return the layouts of a build, made on first use.

        :param build_id: lower-case hex; "" gives layouts that are neither shared nor cached
        :param providers: asked in order for what the cache does not hold
        :param facts: ``module``, ``machine``, ``big_endian``, ``pointer_size`` for a new bundle
        """
        with self._lock:
            known = self._builds.get(build_id) if build_id else None
            if known is not None:
                known.offer(providers)
                return known
            log: list[str] = []
            bundle = None
            if build_id and self._cache is not None:
                bundle = self._cache.read(build_id, log)
            if bundle is None:
                bundle = Bundle(build_id=build_id, **facts)
            made = Layouts(bundle, providers, self._cache)
            made.log += log
            if build_id:
                self._builds[build_id] = made
            return made

    def add(self, bundle: Bundle) -> Layouts:
        """Use a bundle that the user gave, with nothing behind it, for its build.

        What the bundle does not hold is then not known, rather than not there.
        """
        with self._lock:
            made = self._builds[bundle.build_id] = Layouts(bundle)
            return made

    def save(self) -> None:
        """Write out what was learned."""
        for layouts in list(self._builds.values()):
            layouts.save()
