"""The relay's own code in virtual time, against a modelled platform."""
