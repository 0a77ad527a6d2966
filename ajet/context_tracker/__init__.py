"""The record of an episode as token ids: rendering, the token tree, samples."""
