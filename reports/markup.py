"""What every page shares: escaping by default, one style in the page, numbers kept whole."""

import base64
import hashlib
import os
import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from reports import words

_STYLE = Path(__file__).with_name("page.css")
_NUMBER_AND_UNIT = re.compile(r"(\d) (%|ms|s|min|h|days|MB|GB|kB|bytes|million|billion|times)\b")
_NUMBER_AND_PERCENT = re.compile(r"(\d) %")


def environment() -> Environment:
    """Templates that escape every text and refuse a name that is not given."""
    made = Environment(
        loader=PackageLoader("reports", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # `ready` is for the drawings of `reports.svg` alone, which escape what they draw.
    made.filters |= {"mode": words.mode, "nb": unbroken, "strong": strong, "ready": Markup}
    return made


def style() -> Markup:
    """The style sheet of every page."""
    return Markup(_STYLE.read_text(encoding="utf-8"))


def style_hash() -> str:
    """What a content policy needs to allow that style and no other."""
    digest = hashlib.sha256(_STYLE.read_bytes()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def write_whole(text: str, path: Path) -> Path:
    """Write ``text`` to ``path``, whole or not at all; where it is now."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
    return path


def unbroken(text: str) -> str:
    """``text`` with each number kept on one line with its unit."""
    kept = _NUMBER_AND_UNIT.sub("\\1\u00a0\\2", text)
    return _NUMBER_AND_PERCENT.sub("\\1\u00a0%", kept)


def strong(text: str) -> Markup:
    """``text`` escaped, with what stands between double asterisks made strong."""
    parts = [escape(unbroken(part)) for part in text.split("**")]
    return Markup("").join(
        Markup("<strong>{}</strong>").format(part) if odd % 2 else part
        for odd, part in enumerate(parts)
    )
