"""Drawing scenes: a background that shows the place, and little pictures of the objects."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from mmpref.randomness import generator
from mmpref.toyworld.scenes import IMAGE_SIZE, PlacedObject, Scene

SUPERSAMPLING = 4

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

BLACK, DARK, GREY, LIGHT, WHITE = (
    (25, 25, 28),
    (70, 70, 76),
    (140, 142, 148),
    (205, 207, 212),
    (245, 245, 245),
)
RED, ORANGE, YELLOW, GREEN, BLUE, PURPLE, PINK, BROWN, TEAL = (
    (204, 46, 46),
    (232, 130, 40),
    (240, 200, 50),
    (60, 150, 70),
    (52, 96, 190),
    (128, 70, 160),
    (230, 120, 160),
    (124, 78, 44),
    (40, 150, 155),
)

PALETTES: dict[str, tuple[Colour, ...]] = {
    "banana": (YELLOW, (220, 205, 70), (190, 200, 60)),
    "bench": (BROWN, (150, 100, 60), DARK, GREEN),
    "bicycle": (RED, BLUE, BLACK, TEAL, PURPLE),
    "bird": (BLUE, RED, BROWN, YELLOW, DARK),
    "book": (RED, BLUE, GREEN, PURPLE, ORANGE),
    "bottle": (GREEN, (40, 110, 60), TEAL, BROWN, BLUE),
    "bowl": (RED, BLUE, WHITE, ORANGE, TEAL),
    "bus": (YELLOW, RED, BLUE, GREEN),
    "car": (RED, BLUE, WHITE, PURPLE, GREEN, ORANGE),
    "cat": (ORANGE, DARK, GREY, (200, 170, 130)),
    "chair": (BROWN, RED, TEAL, DARK),
    "clock": (RED, BLACK, BLUE, BROWN),
    "couch": (RED, BLUE, GREEN, PURPLE, (190, 150, 110)),
    "cup": (RED, BLUE, WHITE, GREEN, PINK),
    "dining table": (BROWN, (160, 110, 60), (190, 145, 90)),
    "dog": (BROWN, (200, 150, 90), BLACK, LIGHT),
    "kite": (RED, YELLOW, PURPLE, PINK, BLUE),
    "laptop": (GREY, DARK, LIGHT),
    "oven": (LIGHT, DARK, WHITE, RED),
    "person": (RED, BLUE, GREEN, PURPLE, ORANGE),
    "refrigerator": (WHITE, LIGHT, TEAL, (235, 225, 190)),
    "traffic light": (BLACK, DARK, YELLOW),
    "umbrella": (RED, BLUE, PURPLE, YELLOW, GREEN),
    "vase": (BLUE, WHITE, TEAL, PURPLE, BROWN),
    "wine glass": (RED, YELLOW, PURPLE),
}


def image(scene: Scene, seed: int) -> Image.Image:
    """Return the RGB picture of a scene, IMAGE_SIZE pixels square."""
    return picture(scene, seed).reduce(SUPERSAMPLING)


def png(scene: Scene, seed: int) -> bytes:
    """Return the picture of a scene as a PNG file."""
    buffer = io.BytesIO()
    image(scene, seed).save(buffer, format="PNG")
    return buffer.getvalue()


def picture(scene: Scene, seed: int) -> Image.Image:
    """Return the picture before it is scaled down."""
    side = IMAGE_SIZE * SUPERSAMPLING
    canvas = Image.new("RGB", (side, side))
    draw = ImageDraw.Draw(canvas)
    rng = generator(seed, "background", scene.id)
    BACKGROUNDS[scene.place](Pen(draw, 0, 0, side, side), rng)
    for placed in scene.objects:
        DRAWINGS[placed.name](pen_for(draw, placed), colour_of(placed))
    return canvas


def colour_of(placed: PlacedObject) -> Colour:
    """Return the colour of an object: one of its palette, a little lighter or darker."""
    palette = PALETTES[placed.name]
    shade = 0.85 + 0.3 * (placed.colour // len(palette) % 16) / 15
    return tinted(palette[placed.colour % len(palette)], shade)


def tinted(colour: Colour, factor: float) -> Colour:
    """Return a darker (factor < 1) or lighter (factor > 1) colour."""
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


class Pen:
    """Draws in a box whose corners are (0, 0) and (1, 1), left and right swapped if mirrored."""

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        left: float,
        top: float,
        width: float,
        height: float,
        mirrored: bool = False,
    ) -> None:
        self.draw = draw
        self.left, self.top, self.width, self.height = left, top, width, height
        self.mirrored = mirrored

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of a point of the box."""
        x = 1 - x if self.mirrored else x
        return self.left + x * self.width, self.top + y * self.height

    def corners(self, box: Sequence[float]) -> list[float]:
        """Return (left, top, right, bottom) in pixels, in this order when mirrored too."""
        (x0, y0), (x1, y1) = self.point(box[0], box[1]), self.point(box[2], box[3])
        return [min(x0, x1), y0, max(x0, x1), y1]

    def line_width(self, share: float) -> int:
        """Return a share of the box as a line width in pixels."""
        return max(1, round(share * (self.width + self.height) / 2))

    def rectangle(self, *box: float, fill: Colour, radius: float = 0.0) -> None:
        """Fill a rectangle given by left, top, right, bottom."""
        corners, round_by = self.corners(box), self.line_width(radius) if radius else 0
        self.draw.rounded_rectangle(corners, round_by, fill=fill)

    def ellipse(self, *box: float, fill: Colour) -> None:
        """Fill the ellipse in a box given by left, top, right, bottom."""
        self.draw.ellipse(self.corners(box), fill=fill)

    def ring(self, *box: float, fill: Colour, width: float) -> None:
        """Draw the outline of an ellipse."""
        self.draw.ellipse(self.corners(box), outline=fill, width=self.line_width(width))

    def polygon(self, points: Points, fill: Colour) -> None:
        """Fill a polygon."""
        self.draw.polygon([self.point(x, y) for x, y in points], fill=fill)

    def line(self, points: Points, fill: Colour, width: float) -> None:
        """Draw a line through points."""
        pixels = [self.point(x, y) for x, y in points]
        self.draw.line(pixels, fill=fill, width=self.line_width(width), joint="curve")


def pen_for(draw: ImageDraw.ImageDraw, placed: PlacedObject) -> Pen:
    """Return the pen that draws in an object's box."""
    left, top = SUPERSAMPLING * placed.left, SUPERSAMPLING * placed.top
    width, height = SUPERSAMPLING * placed.width, SUPERSAMPLING * placed.height
    return Pen(draw, left, top, width, height, placed.mirrored)


# ------------------------------------------------------------------------------- backgrounds


def kitchen(pen: Pen, rng: np.random.Generator) -> None:
    """Tiles above a counter with drawers."""
    tile, edge = tinted((222, 232, 230), rng.uniform(0.92, 1.04)), float(rng.uniform(0.5, 0.62))
    pen.rectangle(0, 0, 1, 1, fill=tile)
    for step in range(1, 7):
        pen.line([(step / 7, 0), (step / 7, edge)], fill=WHITE, width=0.008)
        pen.line([(0, step * edge / 5), (1, step * edge / 5)], fill=WHITE, width=0.008)
    cupboard = tinted((198, 170, 132), rng.uniform(0.9, 1.1))
    pen.rectangle(0, edge, 1, 1, fill=cupboard)
    pen.rectangle(0, edge, 1, edge + 0.05, fill=tinted(cupboard, 0.7))
    for door in range(3):
        x = door / 3 + 0.03
        pen.rectangle(x, edge + 0.1, x + 0.27, 0.97, fill=tinted(cupboard, 1.08))
        pen.rectangle(x + 0.11, edge + 0.14, x + 0.17, edge + 0.16, fill=DARK)


def living_room(pen: Pen, rng: np.random.Generator) -> None:
    """A papered wall, a wooden floor, a rug."""
    wall, edge = tinted((232, 208, 178), rng.uniform(0.92, 1.06)), float(rng.uniform(0.58, 0.7))
    pen.rectangle(0, 0, 1, 1, fill=wall)
    for step in range(8):
        pen.rectangle(step / 8, 0, step / 8 + 0.05, edge, fill=tinted(wall, 1.05))
    floor = tinted((168, 120, 78), rng.uniform(0.9, 1.1))
    pen.rectangle(0, edge, 1, 1, fill=floor)
    pen.rectangle(0, edge, 1, edge + 0.03, fill=WHITE)
    for step in range(1, 4):
        y = edge + (1 - edge) * step / 4
        pen.line([(0, y), (1, y)], fill=tinted(floor, 0.85), width=0.008)
    x = float(rng.uniform(0.05, 0.4))
    pen.ellipse(x, edge + 0.1, x + 0.55, 0.97, fill=tinted((190, 90, 90), rng.uniform(0.9, 1.1)))


def office(pen: Pen, rng: np.random.Generator) -> None:
    """A wall with a window, a grey carpet."""
    wall, edge = tinted((206, 214, 226), rng.uniform(0.94, 1.06)), float(rng.uniform(0.6, 0.72))
    pen.rectangle(0, 0, 1, 1, fill=wall)
    x = float(rng.uniform(0.05, 0.5))
    pen.rectangle(x, 0.06, x + 0.42, 0.42, fill=WHITE)
    for pane in (x + 0.03, x + 0.225):
        pen.rectangle(pane, 0.09, pane + 0.165, 0.39, fill=(150, 190, 225))
    pen.rectangle(0, edge, 1, 1, fill=tinted((112, 120, 134), rng.uniform(0.9, 1.1)))
    pen.rectangle(0, edge, 1, edge + 0.03, fill=(90, 96, 108))


def street(pen: Pen, rng: np.random.Generator) -> None:
    """Sky, houses, a pavement and a road with a dashed line."""
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


def park(pen: Pen, rng: np.random.Generator) -> None:
    """Sky with a cloud, trees, grass with a path."""
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
    path = [(x, edge), (x + 0.08, edge), (x + 0.3, 1), (x - 0.1, 1)]
    pen.polygon(path, fill=(216, 200, 160))


BACKGROUNDS: dict[str, Callable[[Pen, np.random.Generator], None]] = {
    "kitchen": kitchen,
    "living room": living_room,
    "office": office,
    "street": street,
    "park": park,
}


# ------------------------------------------------------------------------------- objects


def banana(pen: Pen, colour: Colour) -> None:
    """A curved fruit with dark ends."""
    curve = [(0.06, 0.18), (0.12, 0.55), (0.32, 0.84), (0.62, 0.92), (0.96, 0.74)]
    back = [(0.9, 0.62), (0.62, 0.66), (0.42, 0.52), (0.28, 0.3), (0.2, 0.1)]
    pen.polygon(curve + back, fill=colour)
    pen.line([(0.13, 0.2), (0.26, 0.54), (0.5, 0.76), (0.8, 0.76)], tinted(colour, 0.75), 0.04)
    pen.polygon([(0.06, 0.18), (0.1, 0.0), (0.22, 0.0), (0.2, 0.14)], fill=BROWN)
    pen.ellipse(0.87, 0.58, 1.0, 0.76, fill=BROWN)


def bench(pen: Pen, colour: Colour) -> None:
    """Slats for the back and the seat, two pairs of legs."""
    for x in (0.1, 0.82):
        pen.rectangle(x, 0.2, x + 0.08, 1, fill=BLACK)
    for y in (0.18, 0.34):
        pen.rectangle(0, y, 1, y + 0.12, fill=colour)
    pen.polygon([(0, 0.58), (1, 0.58), (1, 0.74), (0, 0.74)], fill=tinted(colour, 1.15))
    pen.rectangle(0, 0.74, 1, 0.79, fill=tinted(colour, 0.6))


def bicycle(pen: Pen, colour: Colour) -> None:
    """Two wheels, a frame, a handlebar and a saddle."""
    for x in (0, 0.56):
        pen.ring(x, 0.46, x + 0.44, 0.96, fill=BLACK, width=0.07)
    frame = [(0.22, 0.71), (0.36, 0.34), (0.72, 0.34), (0.47, 0.71), (0.22, 0.71)]
    pen.line(frame, colour, 0.075)
    pen.line([(0.47, 0.71), (0.33, 0.24)], colour, 0.075)
    pen.line([(0.78, 0.71), (0.68, 0.2), (0.84, 0.16)], colour, 0.075)
    pen.rectangle(0.22, 0.16, 0.44, 0.24, fill=BLACK, radius=0.04)


def bird(pen: Pen, colour: Colour) -> None:
    """A round body with wing, tail, beak and legs."""
    pen.line([(0.45, 0.75), (0.42, 1)], ORANGE, 0.05)
    pen.line([(0.56, 0.75), (0.56, 1)], ORANGE, 0.05)
    pen.polygon([(0.25, 0.5), (0.0, 0.3), (0.02, 0.62)], fill=tinted(colour, 0.7))
    pen.ellipse(0.12, 0.3, 0.78, 0.85, fill=colour)
    pen.ellipse(0.54, 0.06, 0.9, 0.46, fill=colour)
    pen.polygon([(0.87, 0.2), (1, 0.28), (0.87, 0.34)], fill=ORANGE)
    pen.ellipse(0.68, 0.16, 0.8, 0.28, fill=WHITE)
    pen.ellipse(0.73, 0.19, 0.79, 0.26, fill=BLACK)
    pen.polygon([(0.25, 0.48), (0.6, 0.48), (0.35, 0.74)], fill=tinted(colour, 0.6))


def book(pen: Pen, colour: Colour) -> None:
    """An open book with lines of text."""
    pen.polygon([(0, 0.2), (0.5, 0.3), (1, 0.2), (1, 0.86), (0.5, 0.96), (0, 0.86)], fill=colour)
    pen.polygon([(0.06, 0.14), (0.5, 0.26), (0.5, 0.88), (0.06, 0.78)], fill=WHITE)
    pen.polygon([(0.94, 0.14), (0.5, 0.26), (0.5, 0.88), (0.94, 0.78)], fill=(232, 228, 215))
    for step in range(3):
        y = 0.32 + 0.15 * step
        pen.line([(0.13, y), (0.42, y + 0.08)], GREY, 0.045)
        pen.line([(0.87, y), (0.58, y + 0.08)], GREY, 0.045)


def bottle(pen: Pen, colour: Colour) -> None:
    """A body with a label, shoulders and a long neck."""
    pen.rectangle(0.4, 0.0, 0.6, 0.1, fill=RED)
    pen.rectangle(0.42, 0.08, 0.58, 0.4, fill=colour)
    pen.polygon([(0.42, 0.3), (0.58, 0.3), (0.74, 0.46), (0.26, 0.46)], fill=colour)
    pen.rectangle(0.26, 0.44, 0.74, 1, fill=colour, radius=0.06)
    pen.rectangle(0.26, 0.56, 0.74, 0.82, fill=(240, 235, 215))


def bowl(pen: Pen, colour: Colour) -> None:
    """A wide half round with soup in it."""
    pen.polygon([(0.3, 0.85), (0.7, 0.85), (0.76, 0.96), (0.24, 0.96)], fill=tinted(colour, 0.7))
    sides = [(0, 0.38), (0.07, 0.62), (0.22, 0.82), (0.4, 0.9), (0.6, 0.9), (0.78, 0.82)]
    pen.polygon([*sides, (0.93, 0.62), (1, 0.38)], fill=colour)
    pen.ellipse(0, 0.22, 1, 0.54, fill=tinted(colour, 0.75))
    pen.ellipse(0.08, 0.27, 0.92, 0.5, fill=(214, 150, 70))


def bus(pen: Pen, colour: Colour) -> None:
    """A long box with a row of windows and two wheels."""
    pen.rectangle(0, 0.16, 1, 0.86, fill=colour, radius=0.07)
    for step in range(4):
        x = 0.06 + 0.18 * step
        pen.rectangle(x, 0.26, x + 0.13, 0.5, fill=(190, 225, 240))
    pen.rectangle(0.8, 0.26, 0.95, 0.78, fill=(170, 210, 230))
    pen.rectangle(0, 0.62, 0.8, 0.68, fill=WHITE)
    for x in (0.12, 0.56):
        pen.ellipse(x, 0.72, x + 0.22, 0.97, fill=BLACK)
        pen.ellipse(x + 0.07, 0.8, x + 0.15, 0.89, fill=LIGHT)


def car(pen: Pen, colour: Colour) -> None:
    """A low body with a cabin, two wheels and a headlight."""
    cabin = [(0.2, 0.5), (0.32, 0.26), (0.68, 0.26), (0.82, 0.5)]
    pen.polygon(cabin, fill=colour)
    pen.polygon([(0.27, 0.49), (0.36, 0.32), (0.49, 0.32), (0.49, 0.49)], fill=(190, 225, 240))
    pen.polygon([(0.53, 0.49), (0.53, 0.32), (0.65, 0.32), (0.74, 0.49)], fill=(190, 225, 240))
    pen.rectangle(0, 0.48, 1, 0.76, fill=colour, radius=0.08)
    pen.ellipse(0.9, 0.52, 1, 0.62, fill=YELLOW)
    for x in (0.12, 0.64):
        pen.ellipse(x, 0.62, x + 0.25, 0.88, fill=BLACK)
        pen.ellipse(x + 0.08, 0.7, x + 0.17, 0.8, fill=LIGHT)


def cat(pen: Pen, colour: Colour) -> None:
    """A sitting animal with pointed ears, whiskers and a raised tail."""
    pen.line([(0.7, 0.85), (0.92, 0.74), (0.9, 0.42), (0.98, 0.3)], tinted(colour, 0.8), 0.09)
    pen.ellipse(0.2, 0.46, 0.8, 1, fill=colour)
    pen.polygon([(0.14, 0.32), (0.16, 0.0), (0.38, 0.16)], fill=colour)
    pen.polygon([(0.66, 0.32), (0.64, 0.0), (0.42, 0.16)], fill=colour)
    pen.ellipse(0.12, 0.12, 0.68, 0.6, fill=colour)
    for x in (0.24, 0.46):
        pen.ellipse(x, 0.26, x + 0.11, 0.38, fill=(170, 220, 90))
        pen.ellipse(x + 0.035, 0.27, x + 0.075, 0.37, fill=BLACK)
    pen.polygon([(0.36, 0.42), (0.45, 0.42), (0.405, 0.48)], fill=PINK)
    pen.line([(0.02, 0.42), (0.3, 0.46)], WHITE, 0.025)
    pen.line([(0.5, 0.46), (0.8, 0.42)], WHITE, 0.025)


def chair(pen: Pen, colour: Colour) -> None:
    """A high back, a seat and thin legs."""
    pen.rectangle(0.16, 0.0, 0.26, 1, fill=tinted(colour, 0.8))
    pen.rectangle(0.66, 0.55, 0.74, 1, fill=tinted(colour, 0.8))
    pen.rectangle(0.82, 0.6, 0.9, 0.92, fill=tinted(colour, 0.65))
    pen.rectangle(0.36, 0.6, 0.43, 0.92, fill=tinted(colour, 0.65))
    pen.polygon([(0.16, 0.5), (0.78, 0.5), (0.94, 0.6), (0.28, 0.62)], fill=tinted(colour, 1.2))
    pen.polygon([(0.16, 0.0), (0.38, 0.06), (0.38, 0.5), (0.16, 0.5)], fill=colour)
    pen.rectangle(0.16, 0.55, 0.92, 0.62, fill=colour)


def clock(pen: Pen, colour: Colour) -> None:
    """A round face with marks and two hands."""
    pen.ellipse(0.02, 0.02, 0.98, 0.98, fill=colour)
    pen.ellipse(0.13, 0.13, 0.87, 0.87, fill=WHITE)
    for x, y in ((0.5, 0.2), (0.8, 0.5), (0.5, 0.8), (0.2, 0.5)):
        pen.ellipse(x - 0.05, y - 0.05, x + 0.05, y + 0.05, fill=BLACK)
    pen.line([(0.5, 0.5), (0.5, 0.22)], BLACK, 0.07)
    pen.line([(0.5, 0.5), (0.7, 0.62)], BLACK, 0.07)


def couch(pen: Pen, colour: Colour) -> None:
    """A back, two cushions and two arms."""
    pen.rectangle(0.1, 0.2, 0.9, 0.7, fill=tinted(colour, 0.85), radius=0.1)
    for x in (0.17, 0.51):
        pen.rectangle(x, 0.52, x + 0.32, 0.74, fill=tinted(colour, 1.2), radius=0.05)
    pen.rectangle(0.06, 0.7, 0.94, 0.88, fill=colour)
    for x in (0, 0.82):
        pen.rectangle(x, 0.42, x + 0.18, 0.9, fill=colour, radius=0.08)
    for x in (0.08, 0.84):
        pen.rectangle(x, 0.88, x + 0.08, 0.97, fill=BROWN)


def cup(pen: Pen, colour: Colour) -> None:
    """A mug with a handle and coffee in it."""
    pen.ring(0.58, 0.3, 1.0, 0.76, fill=tinted(colour, 0.85), width=0.1)
    pen.rectangle(0.08, 0.2, 0.74, 0.95, fill=colour, radius=0.1)
    pen.ellipse(0.08, 0.08, 0.74, 0.32, fill=tinted(colour, 0.8))
    pen.ellipse(0.14, 0.12, 0.68, 0.29, fill=(84, 50, 30))


def dining_table(pen: Pen, colour: Colour) -> None:
    """A wide top on four legs."""
    for x in (0.06, 0.86):
        pen.rectangle(x, 0.4, x + 0.09, 1, fill=tinted(colour, 0.75))
    for x in (0.26, 0.67):
        pen.rectangle(x, 0.4, x + 0.06, 0.84, fill=tinted(colour, 0.6))
    pen.polygon([(0.16, 0.22), (0.84, 0.22), (1, 0.4), (0, 0.4)], fill=tinted(colour, 1.25))
    pen.rectangle(0, 0.4, 1, 0.5, fill=colour)


def dog(pen: Pen, colour: Colour) -> None:
    """A standing animal with a long muzzle, a hanging ear and a tail."""
    pen.line([(0.14, 0.48), (0.02, 0.22)], colour, 0.09)
    for x in (0.14, 0.27, 0.54, 0.66):
        pen.rectangle(x, 0.62, x + 0.09, 1, fill=tinted(colour, 0.9))
    pen.ellipse(0.08, 0.4, 0.78, 0.76, fill=colour)
    pen.ellipse(0.56, 0.12, 0.9, 0.52, fill=colour)
    pen.rectangle(0.74, 0.28, 1, 0.46, fill=colour, radius=0.07)
    pen.ellipse(0.92, 0.27, 1, 0.36, fill=BLACK if colour != BLACK else GREY)
    pen.ellipse(0.54, 0.14, 0.7, 0.52, fill=tinted(colour, 0.55))
    pen.ellipse(0.74, 0.2, 0.82, 0.29, fill=WHITE)
    pen.rectangle(0.52, 0.5, 0.72, 0.56, fill=RED)


def kite(pen: Pen, colour: Colour) -> None:
    """A diamond in two colours with a tail of bows."""
    tail = [(0.5, 0.66), (0.4, 0.78), (0.56, 0.88), (0.42, 1.0)]
    pen.line(tail, DARK, 0.035)
    for x, y in tail[1:3]:
        pen.polygon([(x - 0.1, y - 0.05), (x + 0.1, y + 0.05), (x + 0.1, y - 0.05)], fill=ORANGE)
    pen.polygon([(0.5, 0), (0.9, 0.28), (0.5, 0.7), (0.1, 0.28)], fill=colour)
    pen.polygon([(0.5, 0), (0.9, 0.28), (0.5, 0.28)], fill=WHITE)
    pen.polygon([(0.5, 0.7), (0.1, 0.28), (0.5, 0.28)], fill=YELLOW)


def laptop(pen: Pen, colour: Colour) -> None:
    """A screen over a keyboard."""
    pen.rectangle(0.14, 0.1, 0.86, 0.66, fill=tinted(colour, 0.7), radius=0.04)
    pen.rectangle(0.2, 0.16, 0.8, 0.6, fill=(80, 160, 235))
    pen.rectangle(0.26, 0.24, 0.56, 0.3, fill=WHITE)
    pen.rectangle(0.26, 0.36, 0.7, 0.42, fill=WHITE)
    pen.polygon([(0.14, 0.66), (0.86, 0.66), (1, 0.9), (0, 0.9)], fill=tinted(colour, 1.15))
    pen.polygon([(0.2, 0.7), (0.8, 0.7), (0.87, 0.8), (0.13, 0.8)], fill=DARK)


def oven(pen: Pen, colour: Colour) -> None:
    """A box with a row of knobs and a glowing window."""
    pen.rectangle(0.04, 0.04, 0.96, 0.98, fill=colour, radius=0.04)
    pen.rectangle(0.04, 0.04, 0.96, 0.1, fill=BLACK)
    for step in range(4):
        x = 0.13 + 0.2 * step
        pen.ellipse(x, 0.15, x + 0.13, 0.28, fill=BLACK)
    pen.rectangle(0.14, 0.36, 0.86, 0.42, fill=GREY)
    pen.rectangle(0.14, 0.48, 0.86, 0.86, fill=BLACK, radius=0.05)
    pen.rectangle(0.22, 0.56, 0.78, 0.78, fill=(250, 150, 50))


def person(pen: Pen, colour: Colour) -> None:
    """A head with hair, a shirt, arms and legs."""
    skin = (226, 178, 140)
    pen.rectangle(0.34, 0.58, 0.48, 1, fill=(50, 60, 96))
    pen.rectangle(0.52, 0.58, 0.66, 1, fill=(50, 60, 96))
    pen.line([(0.34, 0.36), (0.16, 0.6)], skin, 0.09)
    pen.line([(0.66, 0.36), (0.84, 0.56)], skin, 0.09)
    pen.rectangle(0.31, 0.3, 0.69, 0.66, fill=colour, radius=0.08)
    pen.ellipse(0.35, 0.0, 0.65, 0.32, fill=BROWN)
    pen.ellipse(0.38, 0.07, 0.64, 0.31, fill=skin)


def refrigerator(pen: Pen, colour: Colour) -> None:
    """A tall box with two doors and handles."""
    pen.rectangle(0.18, 0.0, 0.82, 1, fill=DARK, radius=0.05)
    pen.rectangle(0.21, 0.03, 0.79, 0.34, fill=colour, radius=0.03)
    pen.rectangle(0.21, 0.38, 0.79, 0.97, fill=colour, radius=0.03)
    pen.rectangle(0.27, 0.12, 0.33, 0.3, fill=DARK)
    pen.rectangle(0.27, 0.42, 0.33, 0.7, fill=DARK)


def traffic_light(pen: Pen, colour: Colour) -> None:
    """Red, yellow and green lamps in a case on a pole."""
    pen.rectangle(0.45, 0.7, 0.55, 1, fill=DARK)
    pen.rectangle(0.28, 0.0, 0.72, 0.78, fill=colour, radius=0.08)
    for y, lamp in ((0.04, (245, 40, 40)), (0.28, (255, 200, 30)), (0.52, (40, 215, 80))):
        pen.ellipse(0.38, y, 0.62, y + 0.22, fill=lamp)


def umbrella(pen: Pen, colour: Colour) -> None:
    """A canopy in segments over a hooked handle."""
    pen.line([(0.5, 0.0), (0.5, 0.9), (0.56, 0.97), (0.66, 0.9)], BROWN, 0.06)
    dome = [(0, 0.5), (0.05, 0.32), (0.2, 0.16), (0.5, 0.08), (0.8, 0.16), (0.95, 0.32), (1, 0.5)]
    scallops = [(0.84, 0.44), (0.67, 0.5), (0.5, 0.44), (0.33, 0.5), (0.16, 0.44)]
    pen.polygon(dome + scallops, fill=colour)
    pen.polygon([(0.5, 0.08), (0.33, 0.5), (0.5, 0.44), (0.67, 0.5)], fill=tinted(colour, 1.35))


def vase(pen: Pen, colour: Colour) -> None:
    """A bellied pot with three flowers."""
    for x, y, petal in ((0.2, 0.1, RED), (0.5, 0.0, YELLOW), (0.76, 0.12, PINK)):
        pen.line([(0.5, 0.6), (x, y + 0.1)], GREEN, 0.05)
        pen.ellipse(x - 0.13, y, x + 0.13, y + 0.24, fill=petal)
        pen.ellipse(x - 0.05, y + 0.07, x + 0.05, y + 0.16, fill=BROWN)
    pen.ellipse(0.24, 0.54, 0.76, 1, fill=colour)
    pen.rectangle(0.36, 0.46, 0.64, 0.62, fill=colour)
    pen.rectangle(0.3, 0.72, 0.7, 0.79, fill=tinted(colour, 0.65))


def wine_glass(pen: Pen, colour: Colour) -> None:
    """A clear bowl with wine on a thin stem."""
    glass, edge = (225, 238, 245), (96, 132, 160)
    pen.rectangle(0.17, 0.0, 0.83, 0.3, fill=edge)
    pen.ellipse(0.17, 0.0, 0.83, 0.65, fill=edge)
    pen.rectangle(0.45, 0.5, 0.55, 0.92, fill=edge)
    pen.ellipse(0.22, 0.87, 0.78, 1, fill=edge)
    pen.rectangle(0.22, 0.0, 0.78, 0.34, fill=glass)
    pen.ellipse(0.22, 0.04, 0.78, 0.6, fill=glass)
    pen.polygon([(0.27, 0.26), (0.73, 0.26), (0.66, 0.48), (0.5, 0.55), (0.34, 0.48)], fill=colour)


DRAWINGS: dict[str, Callable[[Pen, Colour], None]] = {
    "banana": banana,
    "bench": bench,
    "bicycle": bicycle,
    "bird": bird,
    "book": book,
    "bottle": bottle,
    "bowl": bowl,
    "bus": bus,
    "car": car,
    "cat": cat,
    "chair": chair,
    "clock": clock,
    "couch": couch,
    "cup": cup,
    "dining table": dining_table,
    "dog": dog,
    "kite": kite,
    "laptop": laptop,
    "oven": oven,
    "person": person,
    "refrigerator": refrigerator,
    "traffic light": traffic_light,
    "umbrella": umbrella,
    "vase": vase,
    "wine glass": wine_glass,
}
