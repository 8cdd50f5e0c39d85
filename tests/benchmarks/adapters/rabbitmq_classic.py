"""RabbitMQ, a classic queue."""

from tests.benchmarks.adapters.rabbitmq import Queue

_queue = Queue("classic")
setup, put = _queue.setup, _queue.put

if __name__ == "__main__":
    _queue.work()
