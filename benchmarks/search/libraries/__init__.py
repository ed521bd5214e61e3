"""One module a library: `versions()`, and `ATTACKS`, by kind of task and name of attack, which prepare an attack.

Preparing wraps the model as the library wants it, and is not timed. What it returns maps all images, and what goes with
them, to the images found.
"""
