"""`ajet doctor` and `ajet check`: can this machine train, and can this configuration?"""
