"""The HTTP gateway: what `redisq serve` runs. It alone holds the password of Redis, so it is the boundary."""
