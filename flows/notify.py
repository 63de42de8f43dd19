"""Telling people, through Prefect's notification blocks. Nobody is told unless the setting `notify` names a block."""

from __future__ import annotations

from prefect.blocks.core import Block
from prefect.blocks.notifications import AppriseNotificationBlock, NotificationBlock
from prefect.logging import get_run_logger

from menagerie.settings import get_settings


class Email(AppriseNotificationBlock):
    """Mail through an SMTP server; `url` as Apprise writes it: `mailtos://user:password@host?from=a@b.c&to=d@e.f`."""

    _block_type_name = "Email (SMTP)"
    _block_type_slug = "email-smtp"


def tell(subject: str, body: str) -> None:
    """Tell everybody who wants to be told. What fails is logged, without the address, which may be a secret; it never
    fails the flow."""
    for name in get_settings().notify:
        try:
            block = Block.load(name)
            assert isinstance(block, NotificationBlock)
            with block.raise_on_failure():
                block.notify(body, subject)
        except Exception as error:  # each kind of block raises what its client raises
            get_run_logger().warning("%s was not told %r: %s", name, subject, type(error).__name__)
