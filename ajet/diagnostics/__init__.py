"""`ajet doctor` and `ajet check`: can this machine and configuration train?"""
