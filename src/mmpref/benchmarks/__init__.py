"""The benchmarks: a folder for each kind, a file for each source of items.

A folder has `__init__.py`, which declares the public benchmarks it holds (`BENCHMARKS`); `items.py`
(`items`, from a folder of the benchmark's files to items); `score.py` (`verdict` and `metrics`, and
where a judge scores `calls`, `usable` and `parse`); and the judge's prompt. `items.py` imports
nothing of `score.py`: an edit of a scorer must not make the items, and so the responses, anew.
Every cluster job imports the files in here and all `__init__.py`: nothing that takes time there.
"""
