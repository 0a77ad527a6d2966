"""The pydantic classes of the configuration, one file per YAML section."""
