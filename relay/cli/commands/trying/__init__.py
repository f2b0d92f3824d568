"""Commands to try things with, without a daemon of their own: a demonstration, a stand-in, a simulation."""
