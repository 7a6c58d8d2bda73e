"""SVG elements as escaped text. Drawings carry their own numbers and colours, no scripts and no links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

# Okabe and Ito (2008), told apart with any colour vision; without their yellow, which is too light on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
GREY = "#8a8a8a"
CHARACTER = 0.6  # mean width of a character, in font sizes

Points = Sequence[tuple[float, float]]


def element(name: str, content: Markup | str = "", /, **attributes: str | float) -> Markup:
    """<name ...>content</name>; `class_` and `font_size` become class and font-size, numbers have one decimal."""
    said = Markup("").join(
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"), value if isinstance(value, str) else f"{value:.1f}"
        )
        for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, said, escape(content))


def text(x: float, y: float, said: Markup | str, /, **attributes: str | float) -> Markup:
    """A line of text at its baseline."""
    return element("text", said, x=x, y=y, **attributes)


def points(values: Points) -> str:
    """The `points` of a polyline or polygon."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in values)


def drawing(title: str, width: float, height: float, body: Iterable[Markup]) -> Markup:
    """A whole drawing with its title for those who cannot see it."""
    parts = Markup("").join([element("title", title), *body])
    return element("svg", parts, viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", aria_label=title)


def text_width(said: str, size: float) -> float:
    """About how wide a text is."""
    return CHARACTER * size * len(said)


def shortened(said: str, characters: int) -> str:
    """A text of at most so many characters, with an ellipsis where it was longer."""
    return said if len(said) <= characters else f"{said[: characters - 1].rstrip()}…"
