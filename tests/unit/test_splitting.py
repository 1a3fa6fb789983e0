import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mmpref.errors import InputError
from mmpref.sampling.splitting import sentence_end, sentence_spans, split

TEXTS = [
    "The image shows a red cup. In addition, there are two spoons. It looks nice.",
    "Yes, there is a dog in the image. No cat can be seen, e.g. on the couch.",
    "The list:\n\n1. A cup of coffee.\n2. Two spoons\n\nOverall, it is 3.5 m long... and cosy",
    'He said "Stop!" Then he left.  Two spaces. The café is Übergröße 🙂 indeed.',
]


def trained(model, pre_tokenizer, decoder, trainer):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def bpe():
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(
        models.BPE(),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
        trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False),
    )


def sentencepiece_like():
    return trained(
        models.BPE(unk_token="<unk>"),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split("\n", "isolated"),
                pre_tokenizers.Metaspace(prepend_scheme="first"),
            ]
        ),
        decoders.Metaspace(),
        trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False),
    )


@pytest.fixture(params=["bytes", "bpe", "sentencepiece"])
def tokenizer(request, llava):
    if request.param == "bytes":
        return llava.processor.tokenizer
    return bpe() if request.param == "bpe" else sentencepiece_like()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A cup. A bowl.", ["A cup.", "A bowl."]),
        ("  A cup!  Is it? Yes", ["A cup!", "Is it?", "Yes"]),
        (
            "It is 3.5 m, e.g. wide. Mr. Smith is here.",
            ["It is 3.5 m, e.g. wide.", "Mr. Smith is here."],
        ),
        ("J. K. Rowling and I. Then she.", ["J. K. Rowling and I.", "Then she."]),
        (
            "Cups etc. are there. Cups etc. They are.",
            ["Cups etc. are there.", "Cups etc.", "They are."],
        ),
        (
            "At 5 p.m. it rains. At 5 p.m. It rains.",
            ["At 5 p.m. it rains.", "At 5 p.m.", "It rains."],
        ),
        ('He said "Stop!" Then left.', ['He said "Stop!"', "Then left."]),
        ('"It is." he said. (A dog.) End', ['"It is." he said.', "(A dog.)", "End"]),
        ("Nice... and warm... The end.", ["Nice... and warm...", "The end."]),
        ("Seen:\n1. A cup.\n2. A bowl\n\n- fork\n", ["Seen:", "1. A cup.", "2. A bowl", "- fork"]),
        (
            "There are 3. See www.example.org or v2.0.",
            ["There are 3.", "See www.example.org or v2.0."],
        ),
        ("No.", ["No."]),
        ("図書館です。本がある。", ["図書館です。", "本がある。"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text, expected):
    assert [text[start:end] for start, end in sentence_spans(text)] == expected


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("A cup.", None),  # "A cup.5"?
        ("A cup. ", 6),
        ("A cup.)", None),
        ("A cup.) A", 7),
        ("A cup.) a", None),
        ("Cups etc. ", None),
        ("Cups etc. A", 9),
        ("It is 3.", None),
        ("It is 3.5", None),
        ("A cup\n", 5),
        ("\nA cup", None),
        ("本。", 2),
    ],
)
def test_a_stop_counts_only_when_nothing_to_come_can_undo_it(text, end):
    assert sentence_end(text, more_may_come=True) == end


def test_stops_in_the_kept_part_do_not_count():
    assert sentence_end("The U.S. Army is. No.", start=len("The U.S.")) == len("The U.S. Army is.")


@pytest.mark.parametrize("text", TEXTS)
def test_contexts_are_nested_and_spell_the_answer(tokenizer, text):
    clean = tokenizer(text, add_special_tokens=False)["input_ids"]
    for seed in range(20):
        openings = split(tokenizer, text, np.random.default_rng(seed))
        place = 0
        for opening, (start, end) in zip(openings, sentence_spans(text), strict=True):
            assert opening.before == text[place:start]
            place = end
            if opening.swapped:
                continue
            assert opening.context == clean[: len(opening.context)]
            assert text[start:end].startswith(opening.text)
            own = tokenizer.decode(opening.context[opening.begin :])
            assert own.strip() == opening.text.strip()
            # The cut is between words, with a word on each side.
            rest = text[start + len(opening.text) : end]
            words = text[start:end].split()
            if len(words) > 1:
                assert [*opening.text.split(), *rest.split()] == words
                assert opening.text.split()
                assert rest.split()


def test_every_cut_between_words_is_equally_likely(tokenizer):
    text = "Look. There is a cup."
    lengths = [
        len(split(tokenizer, text, np.random.default_rng(seed))[1].text.split())
        for seed in range(900)
    ]
    counts = np.bincount(lengths, minlength=5)
    assert counts[0] == counts[4] == 0
    assert abs(counts[1:4] - 300).max() < 60  # four standard deviations


def test_a_single_word_is_sampled_anew(tokenizer):
    for seed in range(5):
        look, _ = split(tokenizer, "Look. There it is.", np.random.default_rng(seed))
        assert (look.context, look.text) == ([], "")
        _, look = split(tokenizer, "There it is. Look.", np.random.default_rng(seed))
        assert look.text == ""
        assert look.before == " "
        assert tokenizer.decode(look.context).strip() == "There it is."


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("Yes.", "No"),
        ("No", "Yes"),
        ("no, never.", "yes,"),
        ("yes it is", "no"),
        ("No there is none.", "Yes"),
        ("No\nIt is not.", "Yes"),
    ],
)
def test_yes_and_no_are_swapped_half_of_the_time(tokenizer, text, swapped):
    kept = [split(tokenizer, text, np.random.default_rng(seed))[0] for seed in range(400)]
    assert abs(sum(opening.swapped for opening in kept) - 200) < 40
    for opening in kept:
        first_word = swapped if opening.swapped else text.split()[0].removesuffix(".")
        assert opening.text.split()[0] == first_word
        assert tokenizer.decode(opening.context) == opening.text


def test_a_swap_changes_its_own_sentence_alone(tokenizer):
    text = "Yes, it is here. Yes, a dog is here."
    clean = tokenizer(text, add_special_tokens=False)["input_ids"]
    seen = set()
    for seed in range(40):
        first, second = split(tokenizer, text, np.random.default_rng(seed))
        seen.add((first.swapped, second.swapped))
        after = tokenizer.decode(second.context[second.begin :]).strip()
        assert second.context[: second.begin] == clean[: second.begin]
        assert after.startswith("No" if second.swapped else "Yes")
    assert len(seen) == 4


@pytest.mark.parametrize(
    "text",
    ["Nowadays it is.", "Note this.", "It says no.", "Nothing at all",
     "No people are visible.", "no one is here", "No-one is here."],
)  # fmt: skip
def test_other_words_are_not_swapped(tokenizer, text):
    assert not any(
        opening.swapped
        for seed in range(20)
        for opening in split(tokenizer, text, np.random.default_rng(seed))
    )


def test_a_sentence_that_begins_inside_a_token_belongs_to_the_one_before():
    vocabulary = {"A cup": 0, " is. It was": 1, " here": 2, ".": 3, "<unk>": 4}
    model = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    pieces = Regex(r"A cup| is\. It was| here|\.")
    model.pre_tokenizer = pre_tokenizers.Split(pieces, "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model)
    (opening,) = split(tokenizer, "A cup is. It was here.", np.random.default_rng(0))
    assert opening.text in ("A cup", "A cup is. It was")


def test_a_tokenizer_without_offsets_is_refused():
    class Slow:
        name_or_path = "some/model"

        def __call__(self, text, **options):
            raise NotImplementedError

    with pytest.raises(InputError, match="some/model"):
        split(Slow(), "A cup.", np.random.default_rng(0))
