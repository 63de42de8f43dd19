"""The transport: how the world reaches `menagerie`, and nothing more.

service.py    the class BentoML serves          front.py      the one ASGI application behind it
host.py       what one process holds            follow.py     the release channel, watched
batchable.py  BentoML's batcher in place of ours
answering.py admission.py failures.py shadows.py variants.py   inputs to answers
slow_answers.py  what takes long, asked once for all who wait for it
queue.py      what to label next
routes.py admin.py docs.py openapi.py           requests.py responses.py   bodies in and out
compat.py     other names of routes             scoring.py     MLflow's bodies
tracing.py otlp.py                              spans, where they are asked for
metrics.py events.py flow_runs.py               what others learn of us
middleware/   one concern a file                ui/           the page
"""
