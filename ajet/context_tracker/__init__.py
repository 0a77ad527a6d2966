"""What an episode's agents said, as token ids: rendering, the token tree, samples."""
