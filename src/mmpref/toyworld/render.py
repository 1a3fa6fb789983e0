"""Drawing scenes: a background that shows the place, and little pictures of the objects."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from mmpref.randomness import generator
from mmpref.toyworld.scenes import COLOURS, IMAGE_SIZE, LOOKS, PlacedObject, Scene

SUPERSAMPLING = 4

Colour = tuple[int, ...]

DARK, WHITE = tuple(COLOURS["dark"]), tuple(COLOURS["white"])


def image(scene: Scene, seed: int) -> Image.Image:
    """Return the RGB picture of a scene, IMAGE_SIZE pixels square."""
    side = IMAGE_SIZE * SUPERSAMPLING
    canvas = Image.new("RGB", (side, side))
    draw = ImageDraw.Draw(canvas)
    BACKGROUNDS[scene.place](Pen(draw, 0, 0, side, side), generator(seed, "background", scene.id))
    for placed in scene.objects:
        _draw_object(draw, placed)
    return canvas.reduce(SUPERSAMPLING)


def png(scene: Scene, seed: int) -> bytes:
    """Return the picture of a scene as a PNG file."""
    buffer = io.BytesIO()
    image(scene, seed).save(buffer, format="PNG")
    return buffer.getvalue()


def tinted(colour: Sequence[int], factor: float) -> Colour:
    """Return a darker (factor < 1) or lighter (factor > 1) colour."""
    return tuple(min(255, round(channel * factor)) for channel in colour)


@dataclass(frozen=True)
class Pen:
    """Draws in a box whose corners are (0, 0) and (1, 1), left and right swapped if mirrored.

    Coordinates are x, y, x, y, ...: points, or the left, top, right and bottom of a box. Widths
    and radii are shares of the box.
    """

    draw: ImageDraw.ImageDraw
    left: float
    top: float
    width: float
    height: float
    mirrored: bool = False

    def rectangle(self, *box: float, fill: Colour, radius: float = 0.0) -> None:
        """Fill a rectangle, with round corners if there is a radius."""
        round_by = self._line_width(radius) if radius else 0
        self.draw.rounded_rectangle(self._corners(box), round_by, fill=fill)

    def ellipse(self, *box: float, fill: Colour) -> None:
        """Fill the ellipse in a box."""
        self.draw.ellipse(self._corners(box), fill=fill)

    def ring(self, *box: float, fill: Colour, width: float) -> None:
        """Draw the outline of an ellipse."""
        self.draw.ellipse(self._corners(box), outline=fill, width=self._line_width(width))

    def polygon(self, *points: float, fill: Colour) -> None:
        """Fill a polygon."""
        self.draw.polygon(self._pixels(points), fill=fill)

    def line(self, *points: float, fill: Colour, width: float) -> None:
        """Draw a line through points."""
        self.draw.line(self._pixels(points), fill, self._line_width(width), joint="curve")

    def _pixels(self, at: Sequence[float]) -> list[tuple[float, float]]:
        across = [1 - x if self.mirrored else x for x in at[::2]]
        return [
            (self.left + x * self.width, self.top + y * self.height)
            for x, y in zip(across, at[1::2], strict=True)
        ]

    def _corners(self, box: Sequence[float]) -> list[float]:
        (x0, y0), (x1, y1) = self._pixels(box)
        return [min(x0, x1), y0, max(x0, x1), y1]

    def _line_width(self, share: float) -> int:
        return max(1, round(share * (self.width + self.height) / 2))


def _draw_object(draw: ImageDraw.ImageDraw, placed: PlacedObject) -> None:
    left, top = SUPERSAMPLING * placed.left, SUPERSAMPLING * placed.top
    width, height = SUPERSAMPLING * placed.width, SUPERSAMPLING * placed.height
    pen = Pen(draw, left, top, width, height, placed.mirrored)
    # One of the object's colours, a little lighter or darker.
    palette = LOOKS[placed.name]["colours"]
    shade = 0.85 + 0.3 * (placed.colour // len(palette) % 16) / 15
    own = tinted(palette[placed.colour % len(palette)], shade)
    for shape in LOOKS[placed.name]["shapes"]:
        kind, at = next(iter(shape.items()))
        fill = tinted(shape.get("fill", own), shape.get("shade", 1))
        if fill == own and "on_same" in shape:
            fill = tuple(shape["on_same"])
        sizes = {name: shape[name] for name in ("radius", "width") if name in shape}
        getattr(pen, kind)(*at, fill=fill, **sizes)


# ------------------------------------------------------------------------------- backgrounds


def _kitchen(pen: Pen, rng: np.random.Generator) -> None:
    # Tiles above a counter with drawers.
    tile, edge = tinted((222, 232, 230), rng.uniform(0.92, 1.04)), float(rng.uniform(0.5, 0.62))
    pen.rectangle(0, 0, 1, 1, fill=tile)
    for step in range(1, 7):
        pen.line(step / 7, 0, step / 7, edge, fill=WHITE, width=0.008)
        pen.line(0, step * edge / 5, 1, step * edge / 5, fill=WHITE, width=0.008)
    cupboard = tinted((198, 170, 132), rng.uniform(0.9, 1.1))
    pen.rectangle(0, edge, 1, 1, fill=cupboard)
    pen.rectangle(0, edge, 1, edge + 0.05, fill=tinted(cupboard, 0.7))
    for door in range(3):
        x = door / 3 + 0.03
        pen.rectangle(x, edge + 0.1, x + 0.27, 0.97, fill=tinted(cupboard, 1.08))
        pen.rectangle(x + 0.11, edge + 0.14, x + 0.17, edge + 0.16, fill=DARK)


def _living_room(pen: Pen, rng: np.random.Generator) -> None:
    # A papered wall, a wooden floor, a rug.
    wall, edge = tinted((232, 208, 178), rng.uniform(0.92, 1.06)), float(rng.uniform(0.58, 0.7))
    pen.rectangle(0, 0, 1, 1, fill=wall)
    for step in range(8):
        pen.rectangle(step / 8, 0, step / 8 + 0.05, edge, fill=tinted(wall, 1.05))
    floor = tinted((168, 120, 78), rng.uniform(0.9, 1.1))
    pen.rectangle(0, edge, 1, 1, fill=floor)
    pen.rectangle(0, edge, 1, edge + 0.03, fill=WHITE)
    for step in range(1, 4):
        y = edge + (1 - edge) * step / 4
        pen.line(0, y, 1, y, fill=tinted(floor, 0.85), width=0.008)
    x = float(rng.uniform(0.05, 0.4))
    pen.ellipse(x, edge + 0.1, x + 0.55, 0.97, fill=tinted((190, 90, 90), rng.uniform(0.9, 1.1)))


def _office(pen: Pen, rng: np.random.Generator) -> None:
    # A wall with a window, a grey carpet.
    wall, edge = tinted((206, 214, 226), rng.uniform(0.94, 1.06)), float(rng.uniform(0.6, 0.72))
    pen.rectangle(0, 0, 1, 1, fill=wall)
    x = float(rng.uniform(0.05, 0.5))
    pen.rectangle(x, 0.06, x + 0.42, 0.42, fill=WHITE)
    for pane in (x + 0.03, x + 0.225):
        pen.rectangle(pane, 0.09, pane + 0.165, 0.39, fill=(150, 190, 225))
    pen.rectangle(0, edge, 1, 1, fill=tinted((112, 120, 134), rng.uniform(0.9, 1.1)))
    pen.rectangle(0, edge, 1, edge + 0.03, fill=(90, 96, 108))


def _street(pen: Pen, rng: np.random.Generator) -> None:
    # Sky, houses, a pavement and a road with a dashed line.
    pen.rectangle(0, 0, 1, 1, fill=tinted((176, 206, 232), rng.uniform(0.92, 1.06)))
    edge, x = float(rng.uniform(0.5, 0.6)), float(rng.uniform(-0.2, 0))
    while x < 1:
        width, top = float(rng.uniform(0.22, 0.36)), float(rng.uniform(0.12, 0.3))
        house = tinted((188, 152, 134), rng.uniform(0.85, 1.15))
        pen.rectangle(x, top, x + width - 0.02, edge, fill=house)
        for row in range(2):
            for column in (0.2, 0.6):
                left, upper = x + column * width, top + 0.06 + 0.14 * row
                pen.rectangle(left, upper, left + 0.05, upper + 0.07, fill=(222, 222, 190))
        x += width
    pen.rectangle(0, edge, 1, edge + 0.12, fill=(176, 176, 172))
    pen.rectangle(0, edge + 0.12, 1, 1, fill=tinted((96, 98, 104), rng.uniform(0.9, 1.1)))
    for dash in range(4):
        x = dash * 0.27 + 0.04
        pen.rectangle(x, edge + 0.26, x + 0.14, edge + 0.285, fill=(232, 228, 200))


def _park(pen: Pen, rng: np.random.Generator) -> None:
    # Sky with a cloud, trees, grass with a path.
    pen.rectangle(0, 0, 1, 1, fill=tinted((158, 208, 240), rng.uniform(0.94, 1.05)))
    edge, x = float(rng.uniform(0.45, 0.56)), float(rng.uniform(0, 0.6))
    for shift, size in ((0, 0.1), (0.09, 0.13), (0.2, 0.09)):
        pen.ellipse(x + shift, 0.16 - size, x + shift + 0.17, 0.16 + size / 2, fill=WHITE)
    for _ in range(3):
        x, leaves = float(rng.uniform(0, 0.9)), tinted((58, 120, 60), rng.uniform(0.85, 1.2))
        pen.rectangle(x + 0.08, edge - 0.12, x + 0.11, edge + 0.02, fill=(110, 76, 48))
        pen.ellipse(x, edge - 0.28, x + 0.19, edge - 0.06, fill=leaves)
    grass = tinted((126, 188, 92), rng.uniform(0.9, 1.08))
    pen.rectangle(0, edge, 1, 1, fill=grass)
    x = float(rng.uniform(0.2, 0.7))
    pen.polygon(x, edge, x + 0.08, edge, x + 0.3, 1, x - 0.1, 1, fill=(216, 200, 160))


BACKGROUNDS = {
    "kitchen": _kitchen,
    "living room": _living_room,
    "office": _office,
    "street": _street,
    "park": _park,
}
