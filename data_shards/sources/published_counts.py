"""How many images the published data sets have (Table A.1), and a note where a copy has fewer: a partial download."""

from __future__ import annotations

from types import MappingProxyType

IMAGES = MappingProxyType(
    {"celeba": 202_599, "celeba_hq": 30_000, "chairs": 86_366, "cars": 16_185, "dsprites": 737_280}
)


def fewer(data_set: str, count: int) -> tuple[str, ...]:
    """Return a note where a copy of a data set has fewer images than were published. count: of its images."""
    published = IMAGES[data_set]
    if count >= published:
        return ()
    return (f"{count:,} images of the {published:,} that were published: a download or an archive may not be whole",)
