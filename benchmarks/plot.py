"""The figure of docs/benchmarks.md: cost against core size and number of queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.contenders import Cost
    from benchmarks.sections import Row

STYLES = {
    "gdb": ("gdb", "#c04b1a", "s"),
    "drgn": ("drgn", "#8a6d00", "^"),
    "cold": ("vringcore, cold", "#1f6fb4", "o"),
    "warm": ("vringcore, warm", "#12395f", "o"),
}
"""Label, colour and marker of each program; markers tell them apart without colour."""


def draw(sizes: Sequence[Row], queues: Sequence[Row], target: Path) -> None:
    """Write the figure; the suffix of ``target`` says in which format."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    settings = {"svg.hashsalt": "vringcore", "svg.fonttype": "none", "font.size": 9}
    with plt.rc_context(settings):
        figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), layout="constrained")
        gib = [row.apparent / 2**30 for row in sizes]
        _panel(axes[0], gib, sizes, lambda cost: cost.median_ms)
        axes[0].set(title="Time by size of the core", xlabel="GiB, apparent", ylabel="ms")
        _panel(axes[1], gib, sizes, lambda cost: cost.peak_kib / 1024)
        axes[1].set(title="Memory by size of the core", xlabel="GiB, apparent", ylabel="MiB, peak")
        counts = [float(row.value) for row in queues]
        _panel(axes[2], counts, queues, lambda cost: cost.median_ms)
        axes[2].set(title="Time by number of queues", xlabel="queues", ylabel="ms")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        metadata = {"Date": None} if target.suffix == ".svg" else {}
        figure.savefig(target, facecolor="white", metadata=metadata)
        plt.close(figure)


def _panel(
    axes: Any, places: Sequence[float], rows: Sequence[Row], cost: Callable[[Cost], float]
) -> None:
    for name, (label, colour, marker) in STYLES.items():
        if all(name in row.costs for row in rows):
            values = [cost(row.costs[name]) for row in rows]
            axes.plot(places, values, label=label, color=colour, marker=marker, markersize=4)
    axes.set_xscale("log")
    axes.set_xticks(places, [f"{place:.2g}" if place < 10 else f"{place:.0f}" for place in places])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
