"""``report.html``: one file that works offline, the answer first, under a strict content policy."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any, Final

from rocscope.findings import Analysis, KernelFinding, Target
from rocscope.reports import charts, figures, palette, phases, power, serving, step_table, summary
from rocscope.reports.text import shorten
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_KERNELS: Final = 400  # rows; beyond these a page is slow and nobody reads on
MAX_EVIDENCE: Final = 6
# Plotly makes an empty <style> element and fills it through CSSOM; this is the hash of the empty text.
_EMPTY_HASH: Final = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
# Plotly's map module adds a style sheet as it loads unless an element has this id; no map is drawn here.
_STYLE_GUARD: Final = re.compile(r'if\(!document\.getElementById\("([0-9a-f]{64})"\)\)')


class _Html:
    name = "html"
    help = "one self-contained page: charts, tables with search and filters, works offline"
    filename = "report.html"

    def render(self, analysis: Analysis) -> str:
        """Return the page; nothing in it is fetched, text from the recording stays text."""
        roofline = charts.roofline_json(analysis)
        script, style = _template("report.js"), _template("report.css")
        library = _plotly() if roofline else ""
        text: str = (
            _environment()
            .get_template("report.html")
            .render(
                analysis=analysis,
                summary=summary,
                step_table=step_table,
                phases=phases,
                serving=serving,
                power=power,
                figures=figures,
                colour=palette.colour,
                version=metadata.version("rocscope"),
                families=_families(analysis),
                targets=[_target(t, _widest(analysis)) for t in analysis.targets],
                kernels=[_kernel(k, i) for i, k in enumerate(_by_time(analysis)[:MAX_KERNELS])],
                left_out=_left_out(analysis),
                choices=_choices(analysis),
                roofline=roofline,
                slopes=bool(charts.roofline_slopes(analysis)),
                unplaced=_unplaced(analysis),
                style=style,
                script=script,
                library=library,
                styled=_STYLE_GUARD.findall(library),
                policy=_policy([script, library], [style]),
            )
        )
        return text


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("rocscope.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["shorten"] = shorten
    return environment


def _template(name: str) -> str:
    return resources.files("rocscope.reports").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """Return Plotly's own script, as it comes with the Python package."""
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script.replace("\r\n", "\n").replace("</script", "<\\/script")


def _policy(scripts: list[str], styles: list[str]) -> str:
    """Return the content policy: these scripts and styles by their hash, and nothing else at all."""
    allowed = " ".join(_hash(script) for script in scripts if script)
    styled = " ".join(_hash(style) for style in styles)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {styled} {_EMPTY_HASH}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _by_time(analysis: Analysis) -> list[KernelFinding]:
    return sorted(analysis.kernels, key=lambda kernel: -(kernel.time_s or 0.0))


def _left_out(analysis: Analysis) -> dict[str, Any] | None:
    rest = _by_time(analysis)[MAX_KERNELS:]
    if not rest:
        return None
    shares = [kernel.time_frac for kernel in rest if kernel.time_frac is not None]
    return {"count": len(rest), "time_frac": sum(shares) if shares else None}


def _families(analysis: Analysis) -> list[dict[str, Any]]:
    """Return each family with its bar: left edge and width in percent of the whole, and of the longest."""
    longest = max((f.time_frac or 0.0 for f in analysis.families), default=0.0) or 1.0
    edge, rows = 0.0, []
    for family in analysis.families:
        share = 100 * (family.time_frac or 0.0)
        rows.append(
            {
                "it": family,
                "left": round(edge, 3),
                "share": round(share, 3),
                "width": round(share / longest, 2),
                "colour": palette.colour(family.family),
            }
        )
        edge += share
    return rows


def _widest(analysis: Analysis) -> float:
    highs = [t.expected_gain.high_frac for t in analysis.targets if t.expected_gain is not None]
    return max(highs, default=0.0) or 1.0


def _target(target: Target, widest: float) -> dict[str, Any]:
    """Return a target with its interval on a scale common to all targets, in percent of the width."""
    gain = target.expected_gain
    scale = 100 / widest
    interval = None
    if gain is not None:
        low, mid, high = (max(0.0, v * scale) for v in (gain.low_frac, gain.mid_frac, gain.high_frac))
        interval = {"low": round(low, 2), "mid": round(mid, 2), "width": round(max(high - low, 1.0), 2)}
    return {"it": target, "interval": interval, "colour": palette.colour(target.family or "other")}


def _kernel(kernel: KernelFinding, index: int) -> dict[str, Any]:
    """Return a kernel with what its row sorts by; unknown sorts last, never as 0."""
    keys = {
        "time": kernel.time_s,
        "mean": kernel.mean_ns,
        "count": kernel.dispatches,
        "bandwidth": kernel.bandwidth_frac,
        "headroom": kernel.headroom_s,
    }
    return {
        "it": kernel,
        "id": f"kernel-{index}",
        "keys": {key: "" if value is None else repr(float(value)) for key, value in keys.items()},
        "colour": palette.colour(kernel.family),
        "find": visible(f"{kernel.raw_name} {kernel.kernel} {summary.shape(kernel)}").lower(),
    }


def _choices(analysis: Analysis) -> dict[str, list[str]]:
    """Return what the table can be filtered by: only what occurs."""
    shown = _by_time(analysis)[:MAX_KERNELS]
    return {
        "family": sorted({kernel.family for kernel in shown}),
        "bound": sorted({kernel.bound for kernel in shown}),
        "limiter": sorted({kernel.limiter for kernel in shown}),
    }


def _unplaced(analysis: Analysis) -> dict[str, Any]:
    shown = (*charts.roofline_points(analysis), *charts.roofline_slopes(analysis))
    placed = {id(kernel) for kernel in shown}
    rest = [kernel for kernel in analysis.kernels if id(kernel) not in placed]
    shares = [kernel.time_frac for kernel in rest if kernel.time_frac is not None]
    return {"count": len(rest), "time_frac": sum(shares) if shares else None}


REPORT = _Html()
