"""What a store on a server takes beside its URL: what an accept waits for, and where posts wait while it is away."""

from typing import Annotated

from pydantic import Field

from relay.config.schema.values import PositiveDuration, Section, Size, Text, setting


class Durability(Section):
    """What an accept and a claim on a server wait for; the counts it answers are compared."""

    aof: bool = setting(True, "true: until the server has synced its append-only file.")
    replicas: Annotated[int, Field(ge=0, le=16)] = setting(
        0, "Until so many replicas have it too. Name all that can be elected: one that has it not may win."
    )
    timeout: PositiveDuration = setting("500ms", "How long they wait; then the post is answered 503.")


class SpoolSettings(Section):
    """Where posts wait while the server is away: a file of this host, in the form of a sqlite: store."""

    path: Text = setting("spool.db", "A relative path lies in $STATE_DIRECTORY, else beside the configuration file.")
    max_size: Size = setting("512MiB", "Most room; when it is full, posts are answered 503 store_full.")
