"""Templates of this folder, filled in: self-contained HTML pages (pictures inside, no network, no script) and cards."""

import base64
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

MISSING = "–"


def render(template: str, **values: Any) -> str:
    """The template beside this file, filled in; in HTML every value is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {show.__name__: show for show in (score, gain, interval, gains, share, count, duration)}
    environment.globals["picture"] = picture
    return environment.get_template(template).render(**values)


def picture(png: bytes, description: str) -> Markup:
    """An <img> that carries its own bytes."""
    data = base64.b64encode(png).decode("ascii")
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, description)


def score(value: float | None) -> str:
    """A score with four digits; the noise of 4,000 images is in the third."""
    return MISSING if value is None else f"{value:.4f}"


def gain(value: float | None) -> str:
    """A difference of scores, with its sign."""
    return MISSING if value is None else f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")


def points(value: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    return MISSING if value is None else f"{100 * value:+.1f} pp".replace("-", "\N{MINUS SIGN}")


def interval(bounds: Sequence[float] | None) -> str:
    """`[low, high]`."""
    return MISSING if bounds is None else f"[{bounds[0]:.4f}, {bounds[1]:.4f}]"


def gains(bounds: Sequence[float]) -> str:
    """`[low, high]` of a difference, with signs."""
    return f"[{gain(bounds[0])}, {gain(bounds[1])}]"


def share(value: float | None) -> str:
    """A share as a percentage."""
    return MISSING if value is None else f"{100 * value:.1f} %"


def count(value: float | None) -> str:
    """A number with separators of thousands."""
    return MISSING if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """`42 s`, `7 min` or `3 h 05 min`."""
    if seconds is None:
        return MISSING
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(timedelta(seconds=seconds) / timedelta(minutes=1))
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def shortened(text: str, length: int = 24) -> str:
    """A name of up to `length` characters, the last one "…" where it was cut."""
    return text if len(text) <= length else text[: length - 1] + "…"
