"""The configuration: one pydantic class per YAML section, and how a file becomes one of them."""
