"""What operators are shown, as types: the store, the admin API and the command line share them."""
