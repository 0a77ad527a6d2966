"""The wire APIs that an agent can speak, each a folder behind one contract."""
