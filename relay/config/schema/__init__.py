"""The schema: what each key may hold, in pydantic."""
