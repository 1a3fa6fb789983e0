"""Pretraining of the toy LLaVA, in the two stages of real ones.

The vision tower learns to see: which object each patch shows, and which place the image is. It is
then frozen, its features of all images are computed once, and the projector and the language
model learn to caption and to answer yes/no questions. The captions are machine-written, with
likely but absent objects in them, and a quarter of them comes without the image; the answers
are true to the image. So the model knows what is there, and says more than that.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from mmpref.files import replacing
from mmpref.progress import track
from mmpref.randomness import generator, seed_of
from mmpref.toyworld import language, render
from mmpref.toyworld.model import IMAGE_TOKENS, PATCH_SIZE, build_model, build_processor
from mmpref.toyworld.scenes import IMAGE_SIZE, OBJECTS, PLACES, Scene, scene

BLIND_SHARE = 0.25
"""Share of the captions that the language model learns without their image."""

VISION_LEARNING_RATE, LANGUAGE_LEARNING_RATE, ADAMW_LEARNING_RATE = 0.03, 0.015, 2e-3
"""Muon's for the blocks of either model, AdamW's for everything else."""

VISION_BATCH, LANGUAGE_BATCH = 32, 16
"""Images per optimiser step; an image comes with a caption and six questions."""

PLACE_WEIGHT = 0.1
"""Weight of telling the place in the loss of the vision tower."""

YESNO_WEIGHT = 3.0
"""Weight of a Yes or No in the loss, relative to any other token of an answer."""


def pretrain(
    folder: str | Path, *, seed: int, scenes: int, vision_steps: int, steps: int, bias: float
) -> list[float]:
    """Pretrain a model, save it with its processor in `folder`, return the losses of stage two.

    `bias` is that of `language.machine_caption`. Equal arguments give an equal model on one machine
    with a fixed number of threads.
    """
    world = [scene(seed, "pretrain", index) for index in range(scenes)]
    processor = build_processor()
    model = build_model(processor, seed_of(seed, "model") % 2**63)
    images = [render.image(one, seed) for one in track(world, "drawing", scenes)]
    pixels = processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
    train_vision_tower(model, world, pixels, seed, vision_steps)
    features = encode(model, pixels)
    texts = Texts(processor, seed, bias)
    losses = train_language_model(model, world, features, texts, steps)
    with replacing(folder) as temporary:
        temporary.mkdir()
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
    return losses


# ------------------------------------------------------------------------------- seeing


def patch_labels(one: Scene) -> np.ndarray:
    """Return how much each object, and then the background, covers each patch.

    The shape is (patches, objects + 1); rows sum to one. Nearer objects hide what they cover.
    """
    labels = np.zeros((IMAGE_TOKENS, len(OBJECTS) + 1), dtype=np.float32)
    labels[:, -1] = 1
    for placed in one.objects:
        across, down = _covered(placed.left, placed.width), _covered(placed.top, placed.height)
        share = np.outer(down, across).flatten()
        labels *= 1 - share[:, None]
        labels[:, OBJECTS.index(placed.name)] += share
    return labels


def _covered(start: float, length: float) -> np.ndarray:
    """Return the share of each patch's side that lies in a box, less a pixel at both ends."""
    edges = np.arange(0, IMAGE_SIZE, PATCH_SIZE)
    overlap = np.minimum(edges + PATCH_SIZE, start + length - 1) - np.maximum(edges, start + 1)
    return np.clip(overlap, 0, None) / PATCH_SIZE


def train_vision_tower(
    model: LlavaForConditionalGeneration, world: list[Scene], pixels: Tensor, seed: int, steps: int
) -> list[float]:
    """Teach the vision tower to tell objects and places, return its losses.

    It learns with two heads that are dropped afterwards, one for patches and one for the image.
    """
    tower = model.model.vision_tower
    width = tower.config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "heads") % 2**63)
        objects = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(OBJECTS) + 1))
        places = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(PLACES)))
    labels = torch.from_numpy(np.stack([patch_labels(one) for one in world]))
    of_place = torch.tensor([PLACES.index(one.place) for one in world])
    batches = shuffled(len(world), VISION_BATCH, steps, seed, "vision")

    def loss(step: int) -> Tensor:
        batch = torch.from_numpy(batches[step])
        states = tower(pixels[batch]).last_hidden_state[:, 1:]
        seen = F.cross_entropy(objects(states).flatten(0, 1), labels[batch].flatten(0, 1))
        return seen + PLACE_WEIGHT * F.cross_entropy(places(states.mean(1)), of_place[batch])

    others = [tower.embeddings, tower.pre_layrnorm, objects, places]
    return minimise(tower.encoder, others, loss, steps, VISION_LEARNING_RATE, "vision tower")


@torch.no_grad()
def encode(model: LlavaForConditionalGeneration, pixels: Tensor) -> Tensor:
    """Return the vision tower's features before the projector, (images, patches, width)."""
    tower = model.model.vision_tower
    return torch.cat([tower(part).last_hidden_state[:, 1:] for part in pixels.split(256)])


# ------------------------------------------------------------------------------- speaking


@dataclass(frozen=True)
class Text:
    """One prompt with its answer: the tokens after the head of a row, and their weights.

    The weight of a token in the loss is 0 in the prompt. A blind text does not see the image.
    """

    ids: list[int]
    weights: list[float]
    blind: bool = False


class Texts:
    """Writes the texts that a scene is learned with, as token ids."""

    def __init__(self, processor: LlavaProcessor, seed: int, bias: float) -> None:
        self.processor, self.seed, self.bias = processor, seed, bias
        self._ids = lru_cache(maxsize=4096)(self._tokenized)  # questions and answers recur
        self.seen_head = self._ids("<bos>USER: ") + [processor.image_token_id] * IMAGE_TOKENS
        self.seen_head += self._ids("\n")
        self.blind_head = self._ids("<bos>USER:")

    def _tokenized(self, text: str) -> list[int]:
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def text(self, prompt: str, answer: str, blind: bool = False) -> Text:
        """Return a text of which the answer and the end of sequence are learned."""
        asked = self._ids(f"{' ' if blind else ''}{prompt}\nASSISTANT:\n")
        answered = [*self._ids(answer), self.processor.tokenizer.eos_token_id]
        return Text(asked + answered, [0.0] * len(asked) + [1.0] * len(answered), blind)

    def question(self, name: str, form: int, present: bool, whole: bool) -> Text:
        """Return a yes/no question, its answer whole or only the first word of it."""
        asked, answer = language.yesno_question(name, form), language.yesno_answer(name, present)
        text = self.text(asked, answer)
        first = text.weights.index(1.0)
        text.weights[first] = YESNO_WEIGHT
        end = None if whole else first + 1
        return Text(text.ids[:end], text.weights[:end])

    def of(self, one: Scene, step: int) -> list[Text]:
        """Return a caption and six yes/no questions about a scene, three of each answer."""
        rng = generator(self.seed, "texts", one.id, step)
        caption = str(language.machine_caption(one, self.bias, rng))
        prompt = language.CAPTION_PROMPTS[rng.integers(len(language.CAPTION_PROMPTS))]
        texts = [self.text(prompt, caption, blind=bool(rng.random() < BLIND_SHARE))]
        absent = [name for name in OBJECTS if name not in one.names]
        asked = [(name, True) for name in rng.choice(one.names, 3, replace=False)]
        asked += [(name, False) for name in rng.choice(one.likely, 2, replace=False)]
        asked.append((rng.choice(absent), False))
        whole = int(rng.integers(len(asked)))
        for number, (name, present) in enumerate(asked):
            texts.append(self.question(name, int(rng.integers(2)), present, number == whole))
        return texts


@dataclass(frozen=True)
class Rows:
    """A batch in which all texts about an image follow it in one row, blind to each other.

    ids and positions: (rows, length) int64; attention: (rows, 1, length, length) float32, added
    to the attention scores; predicting: flat indices of the tokens from whose states a token is
    predicted; targets and weights: those tokens and their weights in the loss.
    """

    ids: Tensor
    positions: Tensor
    attention: Tensor
    predicting: Tensor
    targets: Tensor
    weights: Tensor


def rows_of(batch: list[list[Text]], texts: Texts, pad: int) -> Rows:
    """Return texts as rows: the head with the image once, then every text continuing it."""
    head, blind_length = texts.seen_head, len(texts.blind_head)
    length = len(head) + max(sum(len(text.ids) for text in row) for row in batch)
    ids = np.full((len(batch), length), pad)
    weights, positions = np.zeros_like(ids, dtype=np.float32), np.zeros_like(ids)
    # Number of the text a token belongs to: 0 for what every text sees, 1 for the image (and the
    # rest of the head), then the texts; padding sees itself only.
    owner, blind = np.full_like(ids, -1), np.zeros_like(ids, dtype=bool)
    ids[:, : len(head)], positions[:, : len(head)] = head, np.arange(len(head))
    owner[:, :blind_length], owner[:, blind_length : len(head)] = 0, 1
    for row, row_texts in enumerate(batch):
        start = len(head)
        for number, text in enumerate(row_texts, start=2):
            part = slice(start, start + len(text.ids))
            ids[row, part], weights[row, part] = text.ids, text.weights
            after = blind_length if text.blind else len(head)
            positions[row, part] = np.arange(after, after + len(text.ids))
            owner[row, part], blind[row, part] = number, text.blind
            start = part.stop
    here, there = owner[:, :, None], owner[:, None, :]
    sees = (here == there) | (there == 0) | ((there == 1) & ~blind[:, :, None])
    sees &= np.tri(length, dtype=bool)
    attention = np.where(sees, np.float32(0), np.finfo(np.float32).min)[:, None]
    learned = np.flatnonzero(weights)
    parts = (ids, positions, attention, learned - 1, ids.flat[learned], weights.flat[learned])
    return Rows(*map(torch.from_numpy, parts))


def train_language_model(
    model: LlavaForConditionalGeneration,
    world: list[Scene],
    features: Tensor,
    texts: Texts,
    steps: int,
) -> list[float]:
    """Teach projector and language model to caption and to answer, return the losses."""
    pad, image_token = texts.processor.tokenizer.pad_token_id, texts.processor.image_token_id
    batches = shuffled(len(world), LANGUAGE_BATCH, steps, texts.seed, "language")
    core, decoder = model.model, model.model.language_model

    def loss(step: int) -> Tensor:
        rows = rows_of([texts.of(world[index], step) for index in batches[step]], texts, pad)
        images = core.multi_modal_projector(features[torch.from_numpy(batches[step])])
        embedded = decoder.embed_tokens(rows.ids)
        embedded = embedded.masked_scatter((rows.ids == image_token)[..., None], images)
        states = decoder(
            inputs_embeds=embedded,
            attention_mask=rows.attention,
            position_ids=rows.positions,
            use_cache=False,
        ).last_hidden_state
        logits = model.lm_head(states.flatten(0, 1)[rows.predicting])
        each = F.cross_entropy(logits, rows.targets, reduction="none")
        return (each * rows.weights).sum() / rows.weights.sum()

    blocks = nn.ModuleList([decoder.layers, core.multi_modal_projector])
    others = [decoder.embed_tokens, decoder.norm]
    return minimise(blocks, others, loss, steps, LANGUAGE_LEARNING_RATE, "language model")


# ------------------------------------------------------------------------------- both


def shuffled(count: int, batch_size: int, steps: int, seed: int, what: str) -> list[np.ndarray]:
    """Return `steps` batches of indices below `count`; each epoch has an order of its own."""
    epochs = math.ceil(steps * batch_size / count)
    order = [generator(seed, what, "order", epoch).permutation(count) for epoch in range(epochs)]
    return np.split(np.concatenate(order)[: steps * batch_size], steps)


def minimise(
    blocks: nn.Module,
    others: list[nn.Module],
    loss: Callable[[int], Tensor],
    steps: int,
    learning_rate: float,
    what: str,
) -> list[float]:
    """Minimise `loss(step)` with a short warm-up and a cosine schedule, return the losses.

    The matrices of the transformer `blocks` learn with Muon, which needs a third of the steps
    AdamW needs here; everything else learns with AdamW.
    """
    matrices = [parameter for parameter in blocks.parameters() if parameter.ndim == 2]
    rest = [parameter for parameter in blocks.parameters() if parameter.ndim != 2]
    rest += [parameter for module in others for parameter in module.parameters()]
    optimizers = [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.0),
        torch.optim.AdamW(
            rest, lr=ADAMW_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.02, fused=True
        ),
    ]
    warmup = max(1, steps // 20)

    def scale(step: int) -> float:
        return min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)))

    schedules = [torch.optim.lr_scheduler.LambdaLR(one, scale) for one in optimizers]
    losses = []
    for step in track(range(steps), what, steps):
        value = loss(step)
        value.backward()
        nn.utils.clip_grad_norm_([*matrices, *rest], 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        losses.append(value.item())
    return losses
