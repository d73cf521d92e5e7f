"""What every page shares: its templates, the chart library, and a policy under which nothing else can run."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any, Final

from rocscope.reports import chart_library, figures, summary
from rocscope.reports.stylesheet import Stylesheet
from rocscope.reports.text import clip, short_words, shorten
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from jinja2 import Environment

# Plotly makes an empty <style> element and fills it through CSSOM; this is the hash of the empty text.
_EMPTY_HASH: Final = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
# Plotly's map module adds a style sheet as it loads unless an element has this id; no map is drawn here.
_STYLE_GUARD: Final = re.compile(r'if\(!document\.getElementById\("([0-9a-f]{64})"\)\)')


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading. One that has nothing to say is not made."""

    id: str
    nav: str  # what the menu calls it
    title: str
    template: str
    facts: Mapping[str, Any] = field(default_factory=dict)  # what its template reads, beside the page's own


@dataclass(frozen=True)
class Page:
    """A page before it is written."""

    title: str  # of the window
    banner: str  # the first line, where one is due
    sections: Sequence[Section]
    facts: Mapping[str, Any]  # what all templates read
    charts: Mapping[str, str]  # JSON by the id of the element that a chart is drawn in
    scripts: Sequence[str]
    styles: Sequence[str]
    folder: str = "sections"  # of its sections' templates

    def text(self) -> str:
        """Return the page; nothing in it is fetched, text from a recording stays text."""
        sheet = Stylesheet()
        environment = _environment()
        known = {**self.facts, "figures": figures, "sheet": sheet, "page": self}
        bodies = [
            environment.get_template(f"{self.folder}/{each.template}").render(
                **known, **each.facts, section=each, first=number == 0
            )
            for number, each in enumerate(self.sections)
        ]
        script = "\n".join(asset(name) for name in self.scripts)
        library = chart_library.library().script if self.charts else ""
        styles = [*(asset(name) for name in self.styles), sheet.text()]
        text: str = environment.get_template("page.html").render(
            page=self,
            bodies=bodies,
            styles=styles,
            script=script,
            library=library,
            styled=_STYLE_GUARD.findall(library),
            version=metadata.version("rocscope"),
            policy=_policy([library, script], styles),
        )
        return text


def for_script(text: str) -> str:
    """Make JSON safe inside a ``<script>`` element: no ``<``, so neither an end tag nor a comment."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@cache
def asset(name: str) -> str:
    """Return a style sheet or script of ours."""
    return resources.files("rocscope.reports").joinpath("templates", name).read_text(encoding="utf-8")


def _capital(text: Any) -> Any:
    """Begin a sentence with a capital, unless it begins with a name; what is markup stays it."""
    return type(text)(summary.heading(text))


def _ticks(text: str) -> Any:
    """Set what stands between backticks as code; all of it stays text."""
    from markupsafe import Markup, escape

    parts = visible(text).split("`")
    if len(parts) % 2 == 0:  # one without a partner
        return escape(visible(text))
    marked = [
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    ]
    return Markup("").join(marked)


@cache
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
    environment.filters["clip"] = clip
    environment.filters["short_words"] = short_words
    environment.filters["ticks"] = _ticks
    environment.filters["capital"] = _capital
    return environment


def _policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
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
