"""Attention over a shared prefix: the trunk once, then each branch over the trunk and itself.

A model that is set to it attends as with `sdpa` wherever no layout is given, and stays set: what
gradient checkpointing computes again must attend as the forward pass did.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mmpref.logprobs.layout import Layout
from mmpref.models import VisionLanguageModel

NAME = "mmpref_split"


def read(vlm: VisionLanguageModel, layout: Layout, features: Tensor, **options: Any) -> Tensor:
    """Return the last hidden states [N, H] of a layout's tokens.

    `features` [image tokens, width] are those of all prompts, in order.
    """
    decoder: Any = vlm.language_model
    if decoder.config._attn_implementation != NAME:
        decoder.set_attn_implementation(NAME)
    used = features[layout.features.to(features.device)] if len(features) else features
    used, others = vlm.family.decoder_inputs(layout.is_image.to(vlm.device), used)
    embeddings = vlm.embed(layout.input_ids, layout.is_image, used)[None]
    return decoder(
        inputs_embeds=embeddings,
        # Four dimensions are taken as they are. Without a mask, transformers would take positions
        # that begin again for the beginning of another sequence.
        attention_mask=torch.empty(1, 1, 1, 1, device=embeddings.device),
        position_ids=layout.positions.to(embeddings.device),
        layout=layout,
        **others,
        **options,
    ).last_hidden_state[0]


def split_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    layout: Layout | None = None,
    behind: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Return what transformers' attention functions return: [B, L, heads, width] and no weights.

    Without a layout, `behind` [B, columns] tells how many positions the columns lie behind the
    token that is read; it hides what a layer with a window does not see.
    """
    window: int | None = options.get("sliding_window")
    if layout is None:
        if behind is not None and window and attention_mask is not None:
            attention_mask = attention_mask & (behind < window)[:, None, None]
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    options.pop("is_causal", None)
    lengths = [segment.length for segment in layout.segments]
    # Split, not sliced: the gradient of a slice is as large as the whole.
    queries, keys, values = (states.split(lengths, dim=2) for states in (query, key, value))
    # Nothing attends to what the last layer returns: what is not read of it need not be computed.
    last = layout.last_only and module.layer_idx == module.config.num_hidden_layers - 1
    parts = []
    for i, segment in enumerate(layout.segments):
        if not segment.length:
            continue
        mask = layout.mask(i, window, query.device)
        if segment.trunk is not None:
            seen_keys, seen_values = (
                torch.cat([states[segment.trunk][:, :, : segment.reach], states[i]], dim=2)
                for states in (keys, values)
            )
            part, _ = sdpa_attention_forward(
                module, queries[i], seen_keys, seen_values, mask, **options
            )
        else:
            asking = queries[i][:, :, -1:] if last else queries[i]
            if last and mask is not None:
                mask = mask[:, :, -1:]
            causal = not last and mask is None
            part, _ = sdpa_attention_forward(
                module, asking, keys[i], values[i], mask, is_causal=causal, **options
            )
            part = nn.functional.pad(part, (0, 0, 0, 0, segment.length - part.shape[1], 0))
        parts.append(part)
    return torch.cat(parts, dim=1), None


AttentionInterface.register(NAME, split_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
