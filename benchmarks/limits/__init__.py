"""The score table of the limit estimator: modelled platforms in virtual time, the relay's policies and its peers."""
