"""Final callbacks that move from the server into the history file of the host that prunes them."""
