"""What a queue's keys hold, before a call and after it."""
