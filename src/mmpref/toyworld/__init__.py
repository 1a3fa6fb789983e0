"""A small world of rendered scenes: a laptop's stand-in for the hub.

Scenes follow priors (a kitchen usually has a cup), a captioner that mentions likely but absent
objects describes them, and a LLaVA of about a million parameters learns from both. It
hallucinates as large models do, from language bias, so the whole pipeline can run on it.
"""
