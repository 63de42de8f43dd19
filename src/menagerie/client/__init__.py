"""A client of a running service, for programs: `Client`, and `AsyncClient` for those with an event loop.

    with Client("http://127.0.0.1:3000", client_id="me") as client:
        answer = client.predict(Path("animal.jpg"))
        client.feedback(answer.prediction_id, "cat")

answers.py   what the service says, as frozen records      failures.py  what can go wrong
plan.py      one call: attempts, waits, deadline; no I/O   calls.py     what is sent, and how it is read
clients.py   the two that do the I/O
"""

from menagerie.client.answers import Answer, Model, Served, Stats, Told
from menagerie.client.clients import AsyncClient, Client
from menagerie.client.failures import ClientError, Refused, Unavailable, UnexpectedAnswer, Unreachable
from menagerie.client.plan import Patience

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "ClientError",
    "Model",
    "Patience",
    "Refused",
    "Served",
    "Stats",
    "Told",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
]
