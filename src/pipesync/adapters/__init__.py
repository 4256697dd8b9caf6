"""How pipesync talks to a CRM: `base` is the protocol, each package beside it one CRM."""
