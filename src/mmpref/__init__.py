"""Preference optimisation for multimodal language models: sample, train, score."""
