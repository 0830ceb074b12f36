"""The numbers of one kind of images as cells of a table, in a terminal and on a page."""

from __future__ import annotations

from typing import Any

SHARES = ("precision", "recall", "density", "coverage")
SHARPNESS = ("spectrum", "detail")
COLUMNS = ("FID", "count", "sprites with IoU >= 0.8", "KID x 1000", *SHARES, *SHARPNESS)


def reals_of(kinds: dict[str, Any]) -> str:
    """Say which reals images were compared with. kinds: of a record of `fid`, or a whole record of `paper`."""
    of = f" of another set ({kinds['reference_data'][:12]})" if kinds.get("reference_data") else ""
    return f"{kinds['reference_count']:,} reals{of}"


def row(numbers: dict[str, Any]) -> list[str]:
    """Format the numbers of one kind of images as cells under COLUMNS; over several seeds with their spread.

    Records of version 0.2.0 have no sharpness, some of earlier ones the first three numbers only. A sharpness that was
    not measured is "-".
    """
    spread = numbers.get("spread", {})

    def cell(name: str, form: str, scale: float = 1.0) -> str:
        """Format one number and its spread; "" where it is not defined."""
        if numbers.get(name) is None:
            return ""
        text = format(numbers[name] * scale, form)
        return f"{text} \u00b1 {spread[name] * scale:.2g}" if name in spread else text

    fidelity = "not defined" if numbers["fidelity"] is None else f"{numbers['fidelity']:.1%}"
    shares = [cell(name, ".3f") for name in SHARES]
    sharpness = [cell(name, "+.3f") or ("-" if name in numbers else "") for name in SHARPNESS]
    return [cell("fid", ".3g"), f"{numbers['count']:,}", fidelity, cell("kid", ".3g", 1000), *shares, *sharpness]
