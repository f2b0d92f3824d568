"""May this platform, or this group of it, be talked to now?"""
