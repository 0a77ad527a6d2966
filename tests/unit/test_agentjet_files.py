"""Files written for AgentJet.

1. A key with another name here sets ours; giving both names is an error.
2. A key without effect is accepted and named, with the reason.
3. A value that cannot be honoured is refused by name, with what to use.
4. The special words mean what they mean in AgentJet.
5. `defaults: [ajet_default]` gives the documented defaults, which the file's own values replace.
"""
