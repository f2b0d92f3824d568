"""Views of what happened and what people did: the minutes, the counts, the journal."""
