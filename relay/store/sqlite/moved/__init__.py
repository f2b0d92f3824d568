"""A store file as the history of a host: final callbacks that lay on a server before."""
