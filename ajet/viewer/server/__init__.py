"""The HTTP side of the viewer: addresses, access, routes."""
