"""The benchmark of the search over inputs: `python -m benchmarks.search`.

The parent (`__main__`, `cases`, `quality`, `workers`) makes the model and the images, and judges what comes back. Every
library answers from a process of its own (`worker`, `libraries`), which imports torch and that library, never ours.
"""
