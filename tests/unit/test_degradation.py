import io
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from mmpref.errors import InputError
from mmpref.logprobs.degradation import (
    CLIP_MEAN,
    CLIP_STD,
    degrade,
    degraded_images,
)
from mmpref.logprobs.diffusion import signal_scale
from mmpref.records.images import open_image
from mmpref.records.rows import Pair
from mmpref.study.parts import DegradedImage

KINDS = [kind for kind in get_args(DegradedImage) if kind != "none"]


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pairs(picture):
    pictures = [png(picture(seed, (40, 30))) for seed in range(4)]
    # Two pairs about the same picture, one about two pictures.
    shown = [(pictures[0],), (pictures[0],), (pictures[1],), (pictures[2], pictures[3])]
    return [
        Pair(str(i), images, "What?", "A cup.", "A dog.", "test", {})
        for i, images in enumerate(shown)
    ]


def coordinates(width, height):
    """An image whose red and green say where a pixel is."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([columns * 255 / width, rows * 255 / height, rows * 0], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_a_degraded_image_belongs_to_seed_pair_and_epoch(kind, pairs):
    def pixels(pair, seed, epoch):
        return np.asarray(degraded_images(kind, pair, pairs, seed, epoch)[0])

    once = pixels(pairs[0], 0, 0)
    assert (once == pixels(pairs[0], 0, 0)).all()
    assert once.shape == (30, 40, 3)
    others = [pixels(pairs[0], 0, epoch) for epoch in range(1, 6)]
    others += [pixels(pairs[0], seed, 0) for seed in range(1, 6)]
    differing = [not np.array_equal(once, other) for other in others]
    assert any(differing) == (kind != "black")


def test_none_is_no_image_at_all(pairs):
    assert degraded_images("none", pairs[3], pairs, 0, 0) == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_of_a_pair_is_degraded(kind, pairs):
    degraded = degraded_images(kind, pairs[3], pairs, 0, 0)
    for before, after in zip(pairs[3].images, degraded, strict=True):
        assert not np.array_equal(np.asarray(open_image(before)), np.asarray(after))


@pytest.mark.parametrize(
    ("kind", "smallest", "largest"), [("crop_0_20", 0.01, 0.2), ("crop_20_50", 0.2, 0.5)]
)
@pytest.mark.parametrize("size", [(400, 300), (300, 500), (64, 64)])
def test_a_crop_keeps_the_share_of_the_area_that_its_name_says(kind, smallest, largest, size):
    image = coordinates(*size)
    shares, ratios = [], []
    for seed in range(200):
        crop = degrade(kind, image, np.random.default_rng(seed))
        assert crop.size == size
        pixels = np.asarray(crop).astype(float)
        span = pixels[..., :2].max(axis=(0, 1)) - pixels[..., :2].min(axis=(0, 1))
        # Colour levels back to pixels; bicubic edges and rounding blur both ends.
        width, height = (span[i] / 255 * size[i] for i in range(2))
        shares.append(width * height / (size[0] * size[1]))
        ratios.append(width / height)
    assert smallest * 0.6 < min(shares) < smallest + 0.04
    assert largest - 0.04 < max(shares) < largest * 1.1
    assert 0.5 < min(ratios) < 0.85
    assert 1.2 < max(ratios) < 1.8


def test_a_crop_of_a_narrow_image_fits():
    for seed in range(50):
        for size in [(300, 4), (4, 300)]:
            image = degrade("crop_20_50", coordinates(*size), np.random.default_rng(seed))
            assert image.size == size


def test_another_image_is_never_its_own(pairs):
    seen = {png(degraded_images("other_image", pairs[0], pairs, seed, 0)[0]) for seed in range(100)}
    everything = {png(open_image(data)) for pair in pairs for data in pair.images}
    assert seen == everything - {png(open_image(pairs[0].images[0]))}


def test_other_image_needs_another_image(pairs):
    with pytest.raises(InputError, match="same image"):
        degraded_images("other_image", pairs[0], pairs[:2], 0, 0)


def test_another_image_is_drawn_without_reading_all_pairs(pairs):
    class Counted(list):
        read = 0

        def __getitem__(self, number):
            Counted.read += 1
            return super().__getitem__(number)

        def __iter__(self):
            raise AssertionError("all pairs are read")

    many = Counted(pairs * 1000)
    for epoch in range(20):
        degraded_images("other_image", pairs[0], many, 0, epoch)
    assert Counted.read < 200


def test_black_is_black():
    assert not np.asarray(degrade("black", coordinates(9, 7), np.random.default_rng(0))).any()


@pytest.mark.parametrize(
    ("steps", "noise"), [(100, 0.058), (200, 0.110), (300, 0.194), (500, 0.505), (900, 0.931)]
)
def test_signal_and_noise_have_the_published_scales(steps, noise):
    assert np.sqrt(1 - signal_scale(steps) ** 2) == pytest.approx(noise, abs=5e-4)


@pytest.mark.parametrize("size", [(200, 150), (1008, 672)])
def test_diffusion_has_the_noise_of_the_normalised_pixels(size):
    grey = Image.new("RGB", size, (122, 117, 104))  # CLIP's mean, so little is clipped
    noisy = degrade("diffusion_500", grey, np.random.default_rng(0))
    # What a tower of 336 pixels sees of it.
    shrink = max(1, min(size) / 336)
    seen = noisy.resize((round(size[0] / shrink), round(size[1] / shrink)), Image.Resampling.BOX)
    normalised = (np.asarray(seen) / 255 - CLIP_MEAN) / CLIP_STD
    assert normalised.mean() == pytest.approx(0, abs=0.02)
    assert normalised.std() == pytest.approx(0.505, rel=0.03)


def test_moco_v2_does_what_it_lists():
    # A colourful image that is not its own mirror image.
    image = coordinates(120, 90)
    made = [
        np.asarray(degrade("moco_v2", image, np.random.default_rng(seed))).astype(int)
        for seed in range(300)
    ]
    grey = [np.ptp(pixels, axis=-1).max() == 0 for pixels in made]
    assert 0.12 < np.mean(grey) < 0.28
    red = [pixels[..., 0] for pixels, is_grey in zip(made, grey, strict=True) if not is_grey]
    flipped = [pixels[:, -5:].mean() < pixels[:, :5].mean() for pixels in red]
    assert 0.4 < np.mean(flipped) < 0.6
    assert len({pixels.tobytes() for pixels in made}) == 300


def test_an_unknown_kind_is_an_error(picture):
    with pytest.raises(KeyError, match="rotation"):
        degrade("rotation", picture(0), np.random.default_rng(0))
