"""A web shop: an API that queues, and a worker that does what takes its time.

From the folder that holds this one, with Redis and credentials in the environment:

    uvicorn webshop.api:app
    redisq worker webshop.worker:worker
    pytest webshop
"""
