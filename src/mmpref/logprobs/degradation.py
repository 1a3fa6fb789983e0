"""Degraded images: what the chosen answer must not be as likely under.

Drawn once per example and epoch, for policy and reference alike, before any processor: the released
mDPO code draws anew for each of the two, which makes its reference term noise.
"""

from collections.abc import Sequence
from itertools import count

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from mmpref.errors import InputError
from mmpref.logprobs.diffusion import signal_scale
from mmpref.randomness import generator
from mmpref.records.images import open_image
from mmpref.records.rows import Pair

CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711])


def degraded_images(
    kind: str, pair: Pair, pairs: Sequence[Pair], seed: int, epoch: int
) -> list[Image.Image]:
    """Return a pair's images, degraded as `kind` says: see `degrade`.

    The kind `none` is no image at all. The kind `other_image` is an image of `pairs` that is not
    this pair's; raises InputError when there is none. The draws depend on `seed` (the study's), the
    pair's id and the epoch alone.
    """
    if kind == "none":
        return []
    rng = generator(seed, "degraded-image", kind, pair.id, epoch)
    if kind == "other_image":
        return [_other_image(pair, pairs, rng) for _ in pair.images]
    return [degrade(kind, open_image(data), rng) for data in pair.images]


def degrade(kind: str, image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return an RGB `image`, degraded, at its size.

    - `crop_0_20`, `crop_20_50`: a patch of 1-20 % or 20-50 % of the area, aspect ratio 3/4 to 4/3,
      enlarged to the full size (mDPO, section 3; the released code keeps the patch).
    - `moco_v2`: the augmentation of Chen et al. 2020, its blur relative to the size of the image.
    - `black`
    - `diffusion_500`: forward diffusion, 500 of 1000 steps (BDHS, Equation 8), on the scale of
      CLIP's normalised pixels, clipped to 8 bits.
    """
    kinds = {
        "crop_0_20": lambda: _random_crop(image, 0.01, 0.2, rng),
        "crop_20_50": lambda: _random_crop(image, 0.2, 0.5, rng),
        "moco_v2": lambda: _moco_v2(image, rng),
        "black": lambda: Image.new("RGB", image.size),
        "diffusion_500": lambda: _diffused(image, rng),
    }
    return kinds[kind]()


def _other_image(pair: Pair, pairs: Sequence[Pair], rng: np.random.Generator) -> Image.Image:
    for draw in count(1):
        images = pairs[int(rng.integers(len(pairs)))].images
        data = images[int(rng.integers(len(images)))]
        if data not in pair.images:
            return open_image(data)
        # Reading all pairs takes long, and hardly ever are so many draws in vain.
        if draw == 100 and all(set(other.images) <= set(pair.images) for other in pairs):
            break
    raise InputError(
        "degraded_image `other_image`: all pairs are about the same image; "
        "choose another kind or add pairs"
    )


def _random_crop(
    image: Image.Image, smallest: float, largest: float, rng: np.random.Generator
) -> Image.Image:
    area = image.width * image.height * rng.uniform(smallest, largest)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    width = min(image.width, max(1.0, np.sqrt(area * ratio)))
    height = min(image.height, max(1.0, np.sqrt(area / ratio)))
    left = rng.uniform(0, image.width - width)
    top = rng.uniform(0, image.height - height)
    box = (left, top, left + width, top + height)
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


def _moco_v2(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    sigma_unit = min(image.size) / 224  # MoCo gives its blur in pixels of images of this size
    image = _random_crop(image, 0.2, 1.0, rng)
    if rng.random() < 0.8:
        image = _jitter(image, rng)
    if rng.random() < 0.2:
        image = image.convert("L").convert("RGB")
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2.0) * sigma_unit))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def _jitter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    enhancers = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color]
    for i in rng.permutation(4):
        if i < 3:
            image = enhancers[i](image).enhance(rng.uniform(0.6, 1.4))
        else:
            turn = round(rng.uniform(-0.1, 0.1) * 256)
            hue, saturation, value = image.convert("HSV").split()
            hue = hue.point([(level + turn) % 256 for level in range(256)])
            image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    return image


def _diffused(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    # Noise finer than what LLaVA-1.5's tower sees would be averaged away by its processor.
    shrink = max(1.0, min(image.size) / 336)
    rows = (np.arange(image.height) / shrink).astype(int)
    columns = (np.arange(image.width) / shrink).astype(int)
    noise = rng.standard_normal((rows[-1] + 1, columns[-1] + 1, 3))[rows][:, columns]
    signal = signal_scale(500)
    normalised = (np.asarray(image) / 255 - CLIP_MEAN) / CLIP_STD
    normalised = signal * normalised + np.sqrt(1 - signal**2) * noise
    pixels = (normalised * CLIP_STD + CLIP_MEAN) * 255
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
