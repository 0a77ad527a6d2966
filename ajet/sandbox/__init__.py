r"""Runs Python programs that a model wrote: no network, no files, bounded time and memory.

result = PythonSandbox().run("print(6 * 7)")
result.output, result.ended_by        # "42\n", "end"
"""

from ajet.sandbox.sandbox import Limits, PythonSandbox, SandboxResult

__all__ = ["Limits", "PythonSandbox", "SandboxResult"]
