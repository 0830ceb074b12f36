"""Videos of pictures: MP4 by PyAV, an optional package, and lossless WebP by Pillow. They appear complete."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

from PIL import Image

from common.atomic_writes import publish, publishing
from common.errors import UserError
from common.shipped import installing

QUALITY = "14"  # x264's constant rate factor: no loss that the eye sees
PAPER = (255, 255, 255)


def write_webp(path: Path, pictures: Iterable[Image.Image], frames_a_second: int) -> None:
    """Write pictures as a lossless, endless WebP. They are in memory together."""
    first, *others = pictures
    buffer = io.BytesIO()
    first.save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=1000 // frames_a_second,
        loop=0,
        lossless=True,
        method=4,
    )
    publish(path, buffer.getvalue())


def refuse_no_mp4() -> None:
    """Raise a UserError where the package that writes MP4 is not installed."""
    if importlib.util.find_spec("av") is None:
        raise UserError(f"--video: mp4: needs the package av; install it ({installing('video')}), or take webp")


def write_mp4(path: Path, pictures: Iterable[Image.Image], frames_a_second: int) -> None:
    """Write pictures of one size as an MP4 (H.264), a picture at a time; an odd side gets a white line, as it must."""
    import av

    pictures = iter(pictures)
    first = _even(next(pictures))
    with publishing(path) as temporary, av.open(str(temporary), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=Fraction(frames_a_second), options={"crf": QUALITY})
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, "yuv420p"
        for picture in chain([first], map(_even, pictures)):
            file.mux(stream.encode(av.VideoFrame.from_image(picture)))
        file.mux(stream.encode())


def _even(picture: Image.Image) -> Image.Image:
    """Add a white line to the right or below where a side is odd: two pixels of H.264 share a colour."""
    width, height = (side + side % 2 for side in picture.size)
    if (width, height) == picture.size:
        return picture
    sheet = Image.new("RGB", (width, height), PAPER)
    sheet.paste(picture)
    return sheet
