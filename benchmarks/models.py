"""Models and pairs of the sizes that the speed of training and sampling is measured with."""

import peft
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from mmpref.logprobs.forward import Example
from mmpref.models import Processor, Prompt, VisionLanguageModel
from mmpref.models.family import Family

IMAGE_TOKENS = 576
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endfor %}"
)


def model(width: int, layers: int, vocabulary: int, dtype: torch.dtype) -> VisionLanguageModel:
    """Return a random LLaVA with 576 image tokens."""
    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<eos>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
    )
    config = LlavaConfig(
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=width * 43 // 16,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            max_position_embeddings=8192,
            initializer_range=0.05,
        ),
        vision_config=CLIPVisionConfig(
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=6,
            image_size=336,
            patch_size=14,
        ),
        image_token_id=fast.convert_tokens_to_ids("<image>"),  # type: ignore[call-arg]
    )
    llava = LlavaForConditionalGeneration(config).eval().to(dtype)
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
        fast,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    vlm = VisionLanguageModel(llava, Processor(processor, Family(config)))
    return vlm


def with_lora(vlm: VisionLanguageModel) -> peft.PeftModel:
    """Return the model with LoRA of rank 16 on its language model, the rest frozen."""
    targets = vlm.family.lora_targets(vlm.model)
    settings = peft.LoraConfig(r=16, target_modules=targets, init_lora_weights=False)
    return peft.get_peft_model(vlm.model, settings, autocast_adapter_dtype=False)


def examples(
    vlm: VisionLanguageModel, images: int, prompts: list[int], answers: list[tuple[int, int]]
) -> list[Example]:
    """Return random pairs with so many images, prompt tokens and tokens of the two answers."""
    image_token, made = vlm.processor.image_token_id, []
    for number, (length, lengths) in enumerate(zip(prompts, answers, strict=True)):
        ids = torch.cat(
            [torch.full((images * IMAGE_TOKENS,), image_token), torch.randint(250, (length,))]
        )
        by_image = {
            name: Prompt(
                ids, ids == image_token, {"pixel_values": torch.randn(images, 3, 336, 336)}
            )
            for name in ("original", "crop_0_20")
        }
        chosen, rejected = (torch.randint(250, (count,)) for count in lengths)
        answered = {"chosen": chosen, "rejected": rejected}
        made.append(Example(str(number), by_image, answered))
    return made
