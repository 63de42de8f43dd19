"""The one tree of exceptions. Each leaf carries the HTTP status a service answers with and a short, stable code.

MenagerieError (500, never meant for a client)
├── ConfigurationError       a setting, a problem file or a missing dataset: says which one and how to mend it
├── ArtefactError            an artefact that is missing, truncated or not what its manifest says
├── ConflictError            409: somebody else moved the pointer, or the prediction was erased
└── RequestError             a refusal that a client caused and can mend
    ├── MalformedRequest     400
    ├── Unauthorised         401
    ├── Forbidden            403
    ├── UnknownPrediction    404
    ├── TooLarge             413
    ├── UnsupportedMedia     415
    ├── UnusableInput        422
    └── Overloaded           503 (also: no model yet, or the journal cannot take feedback)
"""

from __future__ import annotations


class MenagerieError(Exception):
    """Base of all errors raised on purpose."""

    status = 500
    code = "internal"


class ConfigurationError(MenagerieError):
    """A setting, problem file or dataset that cannot be used; the message names the field and the fix."""

    code = "configuration"


class ArtefactError(MenagerieError):
    """An artefact whose files are absent or do not match the sha256 in its manifest."""

    code = "artefact"


class ConflictError(MenagerieError):
    """The state moved since it was read; read again and decide anew."""

    status = 409
    code = "conflict"


class RequestError(MenagerieError):
    """Base of everything a client did."""

    status = 400
    code = "bad_request"


class MalformedRequest(RequestError):
    """The transport is broken: framing, JSON, fields."""

    status = 400
    code = "malformed"


class Unauthorised(RequestError):
    """No credentials where some are needed."""

    status = 401
    code = "unauthorised"


class Forbidden(RequestError):
    """Credentials that do not open this door."""

    status = 403
    code = "forbidden"


class UnknownPrediction(RequestError):
    """No prediction (or problem) has this name."""

    status = 404
    code = "not_found"


class TooLarge(RequestError):
    """More bytes or items than the service takes."""

    status = 413
    code = "too_large"


class UnsupportedMedia(RequestError):
    """Not a type of input this service reads."""

    status = 415
    code = "unsupported_media"


class UnusableInput(RequestError):
    """The right type, but nothing that can be classified; also an unknown label in feedback."""

    status = 422
    code = "unusable"


class Overloaded(RequestError):
    """Cannot be answered now; try again later."""

    status = 503
    code = "overloaded"
