"""What is shown of one kind of images, in a terminal and on a page."""

from __future__ import annotations

from typing import Any

SHARES = ("precision", "recall", "density", "coverage")
COLUMNS = ("FID", "count", "sprites with IoU >= 0.8", "KID x 1000", *SHARES)


def row(found: dict[str, Any]) -> list[str]:
    """Under COLUMNS; over several seeds with the spread. A record of an earlier version has the first three alone."""
    spread = found.get("spread", {})

    def cell(name: str, form: str, scale: float = 1.0) -> str:
        if found.get(name) is None:
            return ""
        text = format(found[name] * scale, form)
        return f"{text} \u00b1 {spread[name] * scale:.2g}" if name in spread else text

    fidelity = "not defined" if found["fidelity"] is None else f"{found['fidelity']:.1%}"
    shares = [cell(name, ".3f") for name in SHARES]
    return [cell("fid", ".3g"), f"{found['count']:,}", fidelity, cell("kid", ".3g", 1000), *shares]
