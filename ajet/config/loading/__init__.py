"""From a YAML file and command-line overrides to a checked configuration."""
