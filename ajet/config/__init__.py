"""The configuration: pydantic classes for the YAML sections, and the loading of YAML files."""
