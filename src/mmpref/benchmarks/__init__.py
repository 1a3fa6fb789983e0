"""The benchmarks: a folder for each kind, a file for each source of items.

A folder has `__init__.py`, which declares the public benchmarks it holds (`BENCHMARKS`); `items.py`
(`items`, from a folder of the benchmark's files to items); `score.py` (`verdict` and `metrics`, and
where a judge scores `calls`, `usable` and `parse`); and the judge's prompt. `items.py` imports
nothing of `score.py`: an edit of a scorer must not make the items, and so the responses, anew.

Every job of a cluster imports what lies directly in here, and the folders' `__init__.py`; they
import what takes time where they use it.
"""
