"""A tokenizer whose tokens are words with the space before them."""

import re

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mmpref.toyworld.language import every_text

PAD, BOS, EOS, UNKNOWN, IMAGE = SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<image>")
PIECE = r" ?[A-Za-z]+|[^A-Za-z]"

# A turn ends with a line break, so an answer is tokenised alike alone and after its prompt.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ message['role'].upper() + ':' + ('\n' if message['role'] == 'assistant' else ' ') }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{{ '<image>\n' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}{% endif %}"
    "{{ eos_token if message['role'] == 'assistant' else '\n' }}"
    "{% endfor %}"
    "{{ 'ASSISTANT:\n' if add_generation_prompt else '' }}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer of the toy world.

    `decode(encode(text))` gives back any text made of the words of the toy language. Words are
    known in lower case and capitalised, with and without a space before them.
    """
    pieces = {"USER", "ASSISTANT", "SYSTEM", "\n", " ", ".", ",", ":", "?", "!", "'", "-"}
    for text in every_text():
        for word in re.findall("[A-Za-z]+", text):
            for form in (word.lower(), word.capitalize()):
                pieces |= {form, f" {form}"}
    vocabulary = {piece: number for number, piece in enumerate([*SPECIAL, *sorted(pieces)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        extra_special_tokens={"image_token": IMAGE},
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=1024,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
