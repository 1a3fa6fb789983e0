"""Bunny's checkpoint as a LLaVA: the same function, every weight in its place."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from hub_server import COMMIT, serving
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from torch import Tensor

from mmpref.errors import InputError
from mmpref.logprobs.forward import Example, log_probabilities
from mmpref.logprobs.views import ORIGINAL, View
from mmpref.models import VisionLanguageModel
from mmpref.models.bunny import convert
from mmpref.sampling.decoding import Job, Request, Sampler

ROOT = Path(__file__).parents[2]
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
HEADS, LAYERS, HIDDEN, INNER = 2, 3, 40, 56
TOWER_HEADS, TOWER_HIDDEN, TOWER_INNER = 16, 32, 48
TOWER = "model.vision_tower.vision_tower.vision_model."
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
SPACES = ["  ", "    ", "\t\t"]
"""As in the real vocabulary, runs of blanks follow the end-of-text token."""


def vocabulary() -> tuple[dict[str, int], list[str]]:
    merges = ["Ġ t", "h e", "Ġt he", "Ġ c", "u p", "Ġc up", "Ġ A"]
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(m.replace(" ", "") for m in merges)]
    vocab = {symbol: number for number, symbol in enumerate(symbols)}
    vocab["<|endoftext|>"] = len(vocab)
    return vocab, merges


def shapes(rows: int) -> dict[str, tuple[int, ...]]:
    """The tensors of the real checkpoint, smaller."""

    def pair(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}

    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (rows, HIDDEN)}
    for layer in (f"model.layers.{n}." for n in range(LAYERS)):
        for name in ("q_proj", "k_proj", "v_proj", "dense"):
            found |= pair(f"{layer}self_attn.{name}", HIDDEN, HIDDEN)
        found |= pair(f"{layer}mlp.fc1", INNER, HIDDEN) | pair(f"{layer}mlp.fc2", HIDDEN, INNER)
        found |= pair(f"{layer}input_layernorm", HIDDEN)
    found |= pair("model.final_layernorm", HIDDEN)
    found |= {"lm_head.weight": (rows, HIDDEN)}
    found |= pair("model.mm_projector.0", HIDDEN, TOWER_HIDDEN)
    found |= pair("model.mm_projector.2", HIDDEN, HIDDEN)
    found |= pair(f"{TOWER}embeddings.patch_embedding", TOWER_HIDDEN, 3, 14, 14)
    found |= {f"{TOWER}embeddings.position_embedding.weight": (729, TOWER_HIDDEN)}
    for layer in (f"{TOWER}encoder.layers.{n}." for n in range(26)):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= pair(f"{layer}self_attn.{name}", TOWER_HIDDEN, TOWER_HIDDEN)
        found |= pair(f"{layer}mlp.fc1", TOWER_INNER, TOWER_HIDDEN)
        found |= pair(f"{layer}mlp.fc2", TOWER_HIDDEN, TOWER_INNER)
        found |= pair(f"{layer}layer_norm1", TOWER_HIDDEN)
        found |= pair(f"{layer}layer_norm2", TOWER_HIDDEN)
    return found | pair(f"{TOWER}post_layernorm", TOWER_HIDDEN)


def write_checkpoint(folder: Path) -> None:
    """Files as in the repository, code among them."""
    vocab, merges = vocabulary()
    end, rows = vocab["<|endoftext|>"], len(vocab) + len(SPACES)
    config = {
        "architectures": ["BunnyPhiForCausalLM"],
        "attention_dropout": 0.0,
        "auto_map": {"AutoConfig": "configuration_bunny_phi.BunnyPhiConfig"},
        "bos_token_id": end,
        "embd_pdrop": 0.0,
        "eos_token_id": end,
        "hidden_act": "gelu_new",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 2048,
        "mm_hidden_size": TOWER_HIDDEN,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "model_type": "bunny-phi",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": HEADS,
        "partial_rotary_factor": 0.4,
        "qk_layernorm": False,
        "resid_pdrop": 0.1,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "vocab_size": rows,
    }
    added = {text: end + 1 + number for number, text in enumerate(SPACES)}
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    files: dict[str, Any] = {
        "config.json": config,
        "vocab.json": vocab,
        "added_tokens.json": added,
        "special_tokens_map.json": special,
        "tokenizer_config.json": {
            "add_prefix_space": False,
            "model_max_length": 2048,
            "tokenizer_class": "CodeGenTokenizer",
            "added_tokens_decoder": {
                str(number): {
                    "content": text,
                    "lstrip": False,
                    "normalized": text in SPACES,
                    "rstrip": False,
                    "single_word": False,
                    "special": text not in SPACES,
                }
                for text, number in {"<|endoftext|>": end, **added}.items()
            },
            **special,
        },
    }
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    weights: dict[str, Tensor] = {}
    for name, shape in shapes(rows).items():
        fan_in = math.prod(shape[1:])
        tensor = torch.randn(shape) * (0.2 if len(shape) == 1 else fan_in**-0.5)
        norm = len(shape) == 1 and name.endswith("weight")
        weights[name] = tensor + 1 if norm else tensor
    # The output follows from few tokens unless the head is steep.
    weights["lm_head.weight"] *= 3
    halves = {name: SHARDS[number > len(weights) // 2] for number, name in enumerate(weights)}
    for file in SHARDS:
        own = {name: weights[name] for name in weights if halves[name] == file}
        save_file(own, folder / file, {"format": "pt"})
    files["model.safetensors.index.json"] = {"metadata": {"total_size": 1}, "weight_map": halves}
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
    merge_lines = ["#version: 0.2", *merges]
    (folder / "merges.txt").write_text("\n".join(merge_lines) + "\n", encoding="utf-8")
    (folder / "configuration_bunny_phi.py").write_text("raise SystemExit('code was run')\n")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bunny") / "checkpoint"
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def bunny(checkpoint: Path) -> VisionLanguageModel:
    convert(checkpoint, checkpoint.parent / "model")
    return VisionLanguageModel.load(checkpoint.parent / "model")


def heads(x: Tensor, count: int) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(0, 1)


class Original:
    """Bunny's forward, read from its code, on the checkpoint's own names."""

    def __init__(self, folder: Path) -> None:
        self.weights = load_file(folder / SHARDS[0]) | load_file(folder / SHARDS[1])
        self.tokenizer = transformers.CodeGenTokenizer.from_pretrained(folder)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)

    def image(self, picture: Image.Image) -> Tensor:
        """Features [729, H]: a square padded with 127, 384 pixels wide, through 26 layers."""
        side = max(picture.size)
        square = Image.new("RGB", (side, side), (127, 127, 127))
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        resized = square.resize((384, 384), Image.Resampling.BICUBIC)
        pixels = (torch.from_numpy(np.array(resized)).float() / 255 - 0.5) / 0.5
        patches = f"{TOWER}embeddings.patch_embedding"
        weight, bias = self.weights[f"{patches}.weight"], self.weights[f"{patches}.bias"]
        x = F.conv2d(pixels.permute(2, 0, 1)[None], weight, bias, stride=14)[0].flatten(1).T
        x = x + self.weights[f"{TOWER}embeddings.position_embedding.weight"]
        for number in range(26):
            layer = f"{TOWER}encoder.layers.{number}."
            before = self.norm(f"{layer}layer_norm1", x, 1e-6)
            q, k, v = (
                heads(self.linear(f"{layer}self_attn.{name}_proj", before), TOWER_HEADS)
                for name in "qkv"
            )
            mixed = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1) @ v
            x = x + self.linear(f"{layer}self_attn.out_proj", mixed.transpose(0, 1).flatten(1))
            inner = self.linear(f"{layer}mlp.fc1", self.norm(f"{layer}layer_norm2", x, 1e-6))
            x = x + self.linear(f"{layer}mlp.fc2", F.gelu(inner, approximate="tanh"))
        return self.linear("model.mm_projector.2", F.gelu(self.linear("model.mm_projector.0", x)))

    def tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def logps(self, question: str, picture: Image.Image | None, answer: str) -> Tensor:
        """Log-probabilities of an answer's tokens, the end included."""
        target = [*self.tokens(answer), self.tokenizer.eos_token_id]
        if picture:
            parts = [f"{SYSTEM} USER: ", f"\n{question} ASSISTANT:"]
        else:
            parts = [f"{SYSTEM} USER: {question} ASSISTANT:"]
        table = self.weights["model.embed_tokens.weight"]
        embedded = [table[self.tokens(part)] for part in parts]
        if picture:
            embedded.insert(1, self.image(picture))
        x = torch.cat([*embedded, table[target[:-1]]])
        logits = self.linear("lm_head", self.text(x)[-len(target) :])
        return logits.log_softmax(-1)[range(len(target)), target]

    def text(self, x: Tensor) -> Tensor:
        rotated = int(0.4 * HIDDEN / HEADS)
        frequencies = 10000 ** -(torch.arange(0, rotated, 2) / rotated)
        angles = torch.arange(len(x))[:, None] * frequencies
        cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()

        def rotary(states: Tensor) -> Tensor:
            turning, rest = states[..., :rotated], states[..., rotated:]
            first, second = turning.chunk(2, -1)
            return torch.cat([turning * cos + torch.cat([-second, first], -1) * sin, rest], -1)

        future = torch.ones(len(x), len(x)).triu(1).bool()
        for number in range(LAYERS):
            layer = f"model.layers.{number}."
            before = self.norm(f"{layer}input_layernorm", x, 1e-5)
            q, k, v = (
                heads(self.linear(f"{layer}self_attn.{name}_proj", before), HEADS) for name in "qkv"
            )
            scores = rotary(q) @ rotary(k).transpose(1, 2) * q.shape[-1] ** -0.5
            mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ v
            inner = self.linear(f"{layer}mlp.fc1", before)
            gelu_new = F.gelu(inner, approximate="tanh")
            # Attention and feed-forward side by side.
            x = (
                x
                + self.linear(f"{layer}self_attn.dense", mixed.transpose(0, 1).flatten(1))
                + self.linear(f"{layer}mlp.fc2", gelu_new)
            )
        return self.norm("model.final_layernorm", x, 1e-5)


@pytest.mark.parametrize("size", [(60, 24), (30, 70), (40, 40)])
def test_log_probabilities_are_those_of_the_original(
    checkpoint: Path,
    bunny: VisionLanguageModel,
    picture: Callable[..., Image.Image],
    size: tuple[int, int],
) -> None:
    image, question, answer = picture(3, size), "What is on the cup?", "A cat  sits on the cup."
    prompt = bunny.processor.encode_prompt(question, [image])
    assert int(prompt.is_image.sum()) == 729
    example = Example("1", {ORIGINAL: prompt}, {"chosen": bunny.processor.encode_answer(answer)})
    view = View("chosen")
    with torch.no_grad():
        found = log_probabilities(bunny, [example], [view], by_token=True)[view]
    expected = Original(checkpoint).logps(question, image, answer)
    assert expected.std() > 0.5
    torch.testing.assert_close(found.by_token[0], expected, rtol=1e-4, atol=1e-4)


def test_a_question_without_an_image(checkpoint: Path, bunny: VisionLanguageModel) -> None:
    question, answer = "Where is the cup?", "There."
    prompt = bunny.processor.encode_prompt(question)
    example = Example("1", {ORIGINAL: prompt}, {"chosen": bunny.processor.encode_answer(answer)})
    view = View("chosen")
    with torch.no_grad():
        found = log_probabilities(bunny, [example], [view], by_token=True)[view]
    expected = Original(checkpoint).logps(question, None, answer)
    torch.testing.assert_close(found.by_token[0], expected, rtol=1e-4, atol=1e-4)


def test_pixels_are_those_of_the_original(
    bunny: VisionLanguageModel, picture: Callable[..., Image.Image]
) -> None:
    image = picture(1, (50, 21))
    pixels = bunny.processor.encode_prompt("?", [image]).pixels["pixel_values"][0]
    square = Image.new("RGB", (50, 50), (127, 127, 127))
    square.paste(image, (0, 14))
    resized = np.asarray(square.resize((384, 384), Image.Resampling.BICUBIC), np.float32)
    expected = torch.from_numpy(resized / 127.5 - 1).permute(2, 0, 1)
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-6)


def test_prompt_and_tokens(bunny: VisionLanguageModel, picture: Callable[..., Image.Image]) -> None:
    tokenizer = bunny.processor.tokenizer
    prompt = bunny.processor.encode_prompt("Is it a cup?", [picture(1)])
    text = tokenizer.decode(prompt.input_ids[~prompt.is_image])
    assert text == f"{SYSTEM} USER: \nIs it a cup? ASSISTANT:"
    rows = bunny.model.config.text_config.vocab_size
    assert bunny.processor.image_token_id == rows == len(tokenizer) - 1
    assert bunny.lm_head.weight.shape[0] == rows
    assert bunny.lm_head.bias is None
    answer = bunny.processor.encode_answer("It is.")
    assert answer[-1] == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert bunny.processor.decode(answer) == "It is."
    with pytest.raises(InputError, match="<image>"):
        bunny.processor.encode_answer("an <image> of it")
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cup."}]},
    ]
    assert bunny.processor.hf.apply_chat_template(turns, tokenize=False) == (
        f"{SYSTEM} USER: <image>\nWhat? ASSISTANT: A cup.<|endoftext|>"
    )


def test_the_sampler_draws_from_the_whole_vocabulary_and_no_further(
    bunny: VisionLanguageModel, picture: Callable[..., Image.Image]
) -> None:
    prompt = bunny.processor.encode_prompt("What?", [picture(1)])
    visible = torch.ones(len(prompt), dtype=torch.bool)
    uniforms = np.random.default_rng(0).random(12)
    job = Job(0, prompt, [Request([], uniforms), Request([], np.zeros(12))], visible)
    ((_, completions),) = Sampler(bunny, 1.0, 1.0).complete([job])
    for completion in completions:
        assert all(token_id < bunny.processor.image_token_id for token_id in completion.token_ids)


def test_configuration_and_precision(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "checkpoint"
    for file in checkpoint.iterdir():
        if file.suffix != ".safetensors":
            copy.mkdir(exist_ok=True)
            (copy / file.name).write_bytes(file.read_bytes())
    for name in SHARDS:
        half = {key: value.half() for key, value in load_file(checkpoint / name).items()}
        save_file(half, copy / name, {"format": "pt"})
    change(copy, torch_dtype="float16")
    convert(copy, tmp_path / "model")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "model")
    assert config.text_config.rope_parameters["partial_rotary_factor"] == 0.4
    assert config.dtype == torch.float16
    llava: Any = transformers.LlavaForConditionalGeneration
    model, loading = llava.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(loading.values())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}


def change(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_unknown_missing_and_misshapen_weights_are_named(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "checkpoint"
    copy.mkdir()
    for file in checkpoint.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    second = load_file(copy / SHARDS[1])
    gone = f"{TOWER}post_layernorm.bias"
    del second[gone]
    bent = f"{TOWER}encoder.layers.25.layer_norm2.bias"
    second[bent] = second[bent][:-1].clone()
    second["lm_head.bias"] = torch.zeros(3)
    save_file(second, copy / SHARDS[1])
    with pytest.raises(InputError) as error:
        convert(copy, tmp_path / "model")
    for words in ("lm_head.bias is unknown", f"{gone} is missing", f"{bent} has the shape"):
        assert words in str(error.value)
    assert not (tmp_path / "model").exists()

    save_file(load_file(checkpoint / SHARDS[0]), copy / SHARDS[1])
    with pytest.raises(InputError, match="is in another file too"):
        convert(copy, tmp_path / "model")
    (copy / SHARDS[1]).write_bytes(b"not safetensors")
    with pytest.raises(InputError, match=f"{SHARDS[1]}: cannot be read"):
        convert(copy, tmp_path / "model")


def test_other_checkpoints_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "checkpoint"
    copy.mkdir()
    for file in checkpoint.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    for key, value in {
        "model_type": "bunny-stablelm",
        "mm_projector_type": "linear",
        "mm_vision_tower": "EVA02-CLIP-L-14-336",
    }.items():
        before = json.loads((copy / "config.json").read_text())
        change(copy, **{key: value})
        with pytest.raises(InputError, match=f"{key} is '{value}'"):
            convert(copy, tmp_path / "model")
        change(copy, **before)
    without = json.loads((copy / "config.json").read_text())
    del without["partial_rotary_factor"]
    (copy / "config.json").write_text(json.dumps(without))
    with pytest.raises(InputError, match="partial_rotary_factor is missing"):
        convert(copy, tmp_path / "model")


def test_from_the_hub_to_a_model(checkpoint: Path, tmp_path: Path) -> None:
    name = "BAAI/Bunny-v1_0-3B"
    fetched, model = tmp_path / "checkpoint", tmp_path / "model"
    with serving() as hub:
        hub.add(name, checkpoint)
        own = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        script = ROOT / "scripts" / "bunny_checkpoint.py"
        subprocess.run(
            [
                *(sys.executable, script, "--repository", name),
                *("--revision", COMMIT, "--output", fetched),
            ],
            env=own | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")},
            check=True,
        )
        assert "configuration_bunny_phi.py" not in hub.sent
    convert(fetched, model)
    assert json.loads((model / "manifest.json").read_text())["licence"] == "apache-2.0"
    written = load_file(model / SHARDS[0]) | load_file(model / SHARDS[1])
    assert written.keys() == VisionLanguageModel.load(model).model.state_dict().keys()
    assert {path.suffix for path in model.iterdir()} == {".json", ".jinja", ".safetensors"}
