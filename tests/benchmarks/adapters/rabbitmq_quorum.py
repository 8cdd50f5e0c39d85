"""RabbitMQ, a quorum queue."""

from tests.benchmarks.adapters.rabbitmq import Queue

_queue = Queue("quorum")
setup, put = _queue.setup, _queue.put

if __name__ == "__main__":
    _queue.work()
