"""Import paths that projects written for AgentJet use. Nothing of ours lives here."""
