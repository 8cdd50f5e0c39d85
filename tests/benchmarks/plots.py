"""What a run showed, as pictures: SVG to be shown, PNG to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from tests.benchmarks.figures import CALLERS, Figures, Samples, percentile
from tests.benchmarks.growth import BYTES, SERVER_TIME
from tests.benchmarks.peers import ADAPTERS, BROKERS, OURS, PEERS, RAW, THREADS

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",  # letters are text, not outlines
    "svg.hashsalt": "redisq",  # the same figures make the same file
}
_TITLES = {name: adapter.title for name, adapter in {**ADAPTERS, **BROKERS}.items()}
_COLOURS = {OURS: "#1d5fbf", THREADS: "#79a9e8", RAW: "#30343b"}
_OTHERS = ("#d1495b", "#edae49", "#66a182", "#8d6a9f", "#c97b4a", "#5aa0a8", "#a3a948", "#b0b0b0")
_THROUGHPUT = {
    "drain": "One worker process on a full queue",
    "queue": "Queue one by one",
    f"callers:{CALLERS}": f"Queue from {CALLERS} callers at once",
    "bulk": "Queue in bulk",
}
_POINTS = 100  # of a distribution's curve
_WIDE = 200  # an axis over which numbers grow this much has room for powers of ten alone


def draw(samples: Samples, stem: Path) -> list[Path]:
    """Draw what was measured into files whose names begin with `stem`, and list them."""
    drawn: list[Path] = []
    figures = samples.figures()
    with matplotlib.rc_context(_STYLE):
        for name, figure in {
            "throughput": _throughput(figures),
            "latency": _latency(samples),
            "concurrency": _concurrency(figures),
            "backlog": _backlog(figures),
        }.items():
            if figure is None:
                continue
            for form in ("svg", "png"):
                path = stem.with_name(f"{stem.name}-{name}.{form}")
                figure.savefig(path, dpi=120, metadata={"Date": None} if form == "svg" else None)
                drawn.append(path)
    return drawn


def _panels(count: int, width: float, heights: Sequence[float]) -> tuple[Figure, Sequence[Axes]]:
    """Make panels, two in each row; the heights are of rows."""
    columns = min(count, 2)
    figure = Figure(figsize=(width * columns, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    panels = [axes[number // 2][number % 2] for number in range(axes.size)]
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels[:count]


def _colour(name: str) -> str:
    return _COLOURS.get(name) or _OTHERS[[*PEERS, *BROKERS].index(name) % len(_OTHERS)]


def _short(number: float, _: object = None) -> str:
    """Write a number in little room: 950, 1.25k, 15k, 5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _logarithmic(panel: Axes, which: str) -> None:
    """Make an axis logarithmic, with a few plain numbers on it; call it when all is drawn."""
    axis = panel.xaxis if which == "x" else panel.yaxis
    (panel.set_xscale if which == "x" else panel.set_yscale)("log")
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < _WIDE else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_short))


def _throughput(figures: Figures) -> Figure | None:
    """Draw bars of messages per second, the longest first."""
    measures = [measure for measure in _THROUGHPUT if figures.get(measure)]
    if not measures:
        return None
    bars = [len(figures[measure]) for measure in measures]
    heights = [0.7 + 0.22 * max(bars[first : first + 2]) for first in range(0, len(bars), 2)]
    figure, panels = _panels(len(measures), 5.0, heights)
    for panel, measure in zip(panels, measures, strict=True):
        found = sorted(figures[measure].items(), key=lambda item: item[1])
        names = [name for name, _ in found]
        values = [value for _, value in found]
        drawn = panel.barh(
            [_TITLES[name] for name in names],
            values,
            color=[_COLOURS.get(name, "#c3c8cf") for name in names],
            height=0.7,
        )
        panel.bar_label(drawn, [_short(value) for value in values], padding=3)
        panel.set_xlim(min(values) / 3, max(values) * 3)
        _logarithmic(panel, "x")
        panel.set_title(_THROUGHPUT[measure])
        panel.tick_params(axis="y", length=0)
    figure.supxlabel("messages per second, logarithmic", fontsize=9)
    return figure


def _latency(samples: Samples) -> Figure | None:
    """Draw how many messages had reached their handler after how long."""
    kinds = {
        "latency": "Idle worker: from queueing to the handler",
        "load": "redisq at half its maximum rate",
    }
    measures = [measure for measure in kinds if samples.latencies.get(measure)]
    if not measures:
        return None
    figure, panels = _panels(len(measures), 4.6, [3.6])
    for panel, measure in zip(panels, measures, strict=True):
        for name, seconds in samples.latencies[measure].items():
            curve = [percentile(seconds, 100 * point / _POINTS) * 1e3 for point in range(1, _POINTS + 1)]
            shares = [point / _POINTS for point in range(1, _POINTS + 1)]
            wide = 2.2 if name in _COLOURS else 1.2
            panel.plot(curve, shares, color=_colour(name), linewidth=wide, label=_TITLES[name])
        _logarithmic(panel, "x")
        panel.set_title(kinds[measure])
        panel.set_xlabel("milliseconds, logarithmic")
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
        panel.grid(alpha=0.25)
        panel.set_ylim(0, 1.01)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure


def _concurrency(figures: Figures) -> Figure | None:
    """Draw throughput over callers at once, and over a worker's slots, beside what others reach."""
    lines = {"callers": _by_number(figures, "callers"), "drain": _by_number(figures, "drain")}
    if not all(len(line) > 1 for line in lines.values()):
        return None
    figure, panels = _panels(2, 5.0, [3.4])
    told = {
        "callers": ("Queueing", "asyncio callers at once", "queue", "one by one"),
        "drain": ("Draining, one worker process", "slots of the worker", "drain", "its best"),
    }
    for panel, (name, line) in zip(panels, lines.items(), strict=True):
        title, label, beside, how = told[name]
        panel.plot(list(line), list(line.values()), color=_COLOURS[OURS], marker="o", linewidth=2, label="redisq")
        for rival, value in _rivals(figures.get(beside, {})):
            panel.axhline(value, color=_colour(rival), linewidth=1.2, linestyle="--")
            panel.annotate(f"{ADAPTERS[rival].title}, {how}", (max(line), value), ha="right", va="bottom", fontsize=8)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(FuncFormatter(_short))
        _logarithmic(panel, "y")
        panel.set_title(title)
        panel.set_xlabel(label)
        panel.set_ylabel("messages per second, logarithmic")
        panel.grid(alpha=0.25)
    return figure


def _by_number(figures: Figures, prefix: str) -> dict[int, float]:
    """Collect our figures of `prefix:number`, by number."""
    found = {}
    for measure, subjects in figures.items():
        name, _, number = measure.partition(":")
        if name == prefix and number.isdecimal() and OURS in subjects:
            found[int(number)] = subjects[OURS]
    return dict(sorted(found.items()))


def _rivals(found: Mapping[str, float]) -> list[tuple[str, float]]:
    """Give the floor and the fastest peer, where they were measured."""
    peers = sorted((value, name) for name, value in found.items() if name in PEERS)
    fastest = [(name, value) for value, name in peers[-1:]]
    return [*fastest, *((name, value) for name, value in found.items() if name == RAW)]


def _backlog(figures: Figures) -> Figure | None:
    """Draw the server's time for each script, and memory per message, over the messages that wait."""
    sizes = sorted(map(int, figures.get(BYTES, {})))
    if len(sizes) < 2:
        return None
    figure, (times, stored) = _panels(2, 5.0, [4.0])
    scripts = {
        measure.removeprefix(SERVER_TIME): by_size
        for measure, by_size in figures.items()
        if measure.startswith(SERVER_TIME)
    }
    least_apart, label_at = 1.22, 0.0
    for number, (script, by_size) in enumerate(sorted(scripts.items(), key=lambda item: item[1][str(sizes[-1])])):
        values = [by_size[str(size)] * 1e6 for size in sizes]
        times.plot(sizes, values, color=f"C{number % 10}", marker="o", markersize=3, linewidth=1.4)
        label_at = max(values[-1], label_at * least_apart)  # no name may overlap the one below it
        beside = times.get_yaxis_transform()
        times.text(1.02, label_at, script, transform=beside, fontsize=8, va="center", color=f"C{number % 10}")
    _logarithmic(times, "y")
    times.set_title("Server time of a script")
    times.set_ylabel("microseconds, logarithmic")
    bytes_each = [figures[BYTES][str(size)] for size in sizes]
    stored.plot(sizes, bytes_each, color=_COLOURS[OURS], marker="o", linewidth=2)
    stored.set_ylim(0, 1.2 * max(bytes_each))
    stored.set_title("Memory of a waiting message")
    stored.set_ylabel("bytes")
    for panel in (times, stored):
        _logarithmic(panel, "x")
        panel.set_xlabel("messages waiting, logarithmic")
        panel.grid(alpha=0.25)
    return figure
