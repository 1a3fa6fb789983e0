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
    folder: str | Path,
    *,
    seed: int,
    scenes: int,
    vision_steps: int,
    steps: int,
    bias: float,
) -> list[float]:
    """Pretrain a model, save it with its processor in `folder`, return the losses of stage two.

    `bias` is that of `language.machine_caption`. Equal arguments give an equal model on one machine
    with a fixed number of threads.
    """
    world = [scene(seed, "pretrain", index) for index in range(scenes)]
    processor = build_processor()
    model = build_model(processor, seed_of(seed, "model") % 2**63)
    pixels = pixels_of(world, processor, seed)
    train_vision_tower(model, world, pixels, seed, vision_steps)
    features = encode(model, pixels)
    losses = train_language_model(model, processor, world, features, seed, steps, bias)
    with replacing(folder) as temporary:
        temporary.mkdir()
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
    return losses


def pixels_of(world: list[Scene], processor: LlavaProcessor, seed: int) -> Tensor:
    """Return the processor's pixel values of all scenes, (scenes, 3, side, side)."""
    images = [render.image(one, seed) for one in track(world, "drawing", len(world))]
    return processor.image_processor(images=images, return_tensors="pt")["pixel_values"]


# ------------------------------------------------------------------------------- seeing


def patch_labels(one: Scene) -> np.ndarray:
    """Return how much each object, and then the background, covers each patch.

    The shape is (patches, objects + 1); rows sum to one. Nearer objects hide what they cover.
    """
    edges = np.arange(0, IMAGE_SIZE, PATCH_SIZE)
    labels = np.zeros((IMAGE_TOKENS, len(OBJECTS) + 1), dtype=np.float32)
    labels[:, -1] = 1
    for placed in one.objects:
        across = _covered(edges, placed.left + 1, placed.left + placed.width - 1)
        down = _covered(edges, placed.top + 1, placed.top + placed.height - 1)
        share = np.outer(down, across).reshape(-1, 1)
        labels *= 1 - share
        labels[:, OBJECTS.index(placed.name)] += share[:, 0]
    return labels


def _covered(edges: np.ndarray, start: float, end: float) -> np.ndarray:
    """Return the share of each patch's side that lies between start and end."""
    overlap = np.minimum(edges + PATCH_SIZE, end) - np.maximum(edges, start)
    return np.clip(overlap, 0, None) / PATCH_SIZE


def train_vision_tower(
    model: LlavaForConditionalGeneration,
    world: list[Scene],
    pixels: Tensor,
    seed: int,
    steps: int,
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
    parts = [tower(part).last_hidden_state[:, 1:] for part in pixels.split(256)]
    return torch.cat(parts)


# ------------------------------------------------------------------------------- speaking


@dataclass(frozen=True)
class Text:
    """One prompt with its answer, as it follows the head of a row.

    `ids` are the tokens after the head; a token is learned with the weight that stands in
    `weights` (0: part of the prompt). A blind text does not see the image.
    """

    ids: list[int]
    weights: list[float]
    blind: bool = False


class Texts:
    """Writes the texts that a scene is learned with, as token ids."""

    def __init__(self, processor: LlavaProcessor, seed: int, bias: float) -> None:
        self.processor, self.seed, self.bias = processor, seed, bias
        self.seen_head = self._ids("<bos>USER: ") + [processor.image_token_id] * IMAGE_TOKENS
        self.seen_head += self._ids("\n")
        self.blind_head = self._ids("<bos>USER:")
        self.questions: dict[tuple[str, int, bool, bool], Text] = {}

    def _ids(self, text: str) -> list[int]:
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def text(self, prompt: str, answer: str, blind: bool = False) -> Text:
        """Return a text of which the answer and the end of sequence are learned."""
        asked = self._ids(f"{' ' if blind else ''}{prompt}\nASSISTANT:\n")
        answered = [*self._ids(answer), self.processor.tokenizer.eos_token_id]
        return Text(asked + answered, [0.0] * len(asked) + [1.0] * len(answered), blind)

    def question(self, name: str, form: int, present: bool, whole: bool) -> Text:
        """Return a yes/no question, its answer whole or only the first word of it."""
        key = (name, form, present, whole)
        if key not in self.questions:
            asked = language.yesno_question(name, form)
            text = self.text(asked, language.yesno_answer(name, present))
            first = text.weights.index(1.0)
            text.weights[first] = YESNO_WEIGHT
            end = len(text.ids) if whole else first + 1
            self.questions[key] = Text(text.ids[:end], text.weights[:end])
        return self.questions[key]

    def of(self, one: Scene, step: int) -> list[Text]:
        """Return a caption and six yes/no questions about a scene, three of each answer."""
        rng = generator(self.seed, "texts", one.id, step)
        caption = str(language.machine_caption(one, self.bias, rng))
        prompt = language.CAPTION_PROMPTS[rng.integers(len(language.CAPTION_PROMPTS))]
        texts = [self.text(prompt, caption, blind=bool(rng.random() < BLIND_SHARE))]
        absent = [name for name in OBJECTS if name not in one.names]
        asked = [
            *((str(name), True) for name in rng.choice(one.names, 3, replace=False)),
            *((str(name), False) for name in rng.choice(one.likely, 2, replace=False)),
            (str(rng.choice(absent)), False),
        ]
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
    positions = np.zeros((len(batch), length), dtype=np.int64)
    # Number of the text a token belongs to: 0 for what every text sees, 1 for the image (and the
    # rest of the head), then the texts; padding sees itself only.
    owner = np.full((len(batch), length), -1)
    blind = np.zeros((len(batch), length), dtype=bool)
    weights = np.zeros((len(batch), length), dtype=np.float32)
    ids[:, : len(head)] = head
    positions[:, : len(head)] = np.arange(len(head))
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
    here, there = torch.from_numpy(owner)[:, :, None], torch.from_numpy(owner)[:, None, :]
    sighted = ~torch.from_numpy(blind)[:, :, None]
    sees = (here == there) | (there == 0) | ((there == 1) & sighted)
    sees &= torch.ones(length, length, dtype=torch.bool).tril()
    attention = torch.zeros(sees.shape).masked_fill_(~sees, torch.finfo(torch.float32).min)
    learned = np.flatnonzero(weights)
    return Rows(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        attention=attention[:, None],
        predicting=torch.from_numpy(learned - 1),
        targets=torch.from_numpy(ids.flatten()[learned]),
        weights=torch.from_numpy(weights.flatten()[learned]),
    )


def train_language_model(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    world: list[Scene],
    features: Tensor,
    seed: int,
    steps: int,
    bias: float,
) -> list[float]:
    """Teach projector and language model to caption and to answer, return the losses."""
    texts = Texts(processor, seed, bias)
    pad, image_token = processor.tokenizer.pad_token_id, processor.image_token_id
    batches = shuffled(len(world), LANGUAGE_BATCH, steps, seed, "language")
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
