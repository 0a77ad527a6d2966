"""What the backbones that run on Ray share."""
