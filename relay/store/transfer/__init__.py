"""A store copied into another one: what is carried, in which order, and what is compared at the end."""
