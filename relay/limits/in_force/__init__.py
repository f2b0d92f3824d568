"""The limits kept to: one limit's state, the set under one quota, noise, outages, steps beyond."""
