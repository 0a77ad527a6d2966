"""The recipe of the tiny models with which the examples run on a CPU.

    python -m tutorial.tiny_models.build tutorial.example_countdown.teacher --out FOLDER

An example's `teacher.py` has demonstrations and a `Recipe`. docs/tiny_models.md shows how to write
one.
"""
