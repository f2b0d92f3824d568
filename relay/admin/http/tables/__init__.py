"""The rows of the admin listener's table of routes: path, permission, handler and views, by what they are about."""
