"""What delivery does with the gate of a platform: tells it and the learner of answers, and keeps it over a restart."""
