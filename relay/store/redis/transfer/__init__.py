"""A store on a server as either side of a copy."""
