"""Families of models that are not LLaVA-like: a file each, named by config.json's `model_type`."""
