"""From model inputs to answers.

runtime.py    one forward pass of an artefact's bytes, and the proof that it gives what it gave when it was judged
batcher.py    inputs that wait together are run together; nothing waits for company
reading.py    light inputs are read by the thread that runs their batch
predictor.py  an input to an answer: decode, describe, run, journal
traffic.py    which version answers a request, and which one scores it beside
"""
