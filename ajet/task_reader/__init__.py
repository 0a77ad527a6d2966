"""Sources of tasks, one class per file; the registry is in `config/sections/task_reader.py`."""
