"""What a decision sets going: people told through real blocks, approvals waited for, retrainings recorded."""

from __future__ import annotations

import json
import os
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock

import flows.life
import flows.retrain
from flows.check import check, keep
from flows.events import announce
from flows.life import living, retraining_of
from flows.notify import Email
from flows.retrain import retrain
from menagerie.cli import main
from menagerie.data.feedback import Gathered
from menagerie.journal import open_journal
from menagerie.monitoring.situation import under_way
from menagerie.problems import load_problem
from menagerie.records import MODEL_PROMOTED, MODEL_ROLLED_BACK, Decision, ModelRef, Row
from menagerie.releases import open_channel
from menagerie.settings import get_settings
from tests import tiny
from tests.helpers import free_port, make_table_artefact
from tests.unit.journal.samples import prediction, voice

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    """What a webhook was told, and the setting that names it."""
    told: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        webhook("ops", f"http://127.0.0.1:{server.server_port}/")
        told_to(monkeypatch, "custom-webhook/ops")
        yield told
        server.shutdown()


def webhook(name: str, url: str) -> None:
    body = {"subject": "{{subject}}", "body": "{{body}}"}
    CustomWebhookNotificationBlock(name=name, url=url, json_data=body).save(name, overwrite=True)


def told_to(monkeypatch: pytest.MonkeyPatch, blocks: str) -> None:
    monkeypatch.setenv("MENAGERIE_NOTIFY", blocks)
    get_settings.cache_clear()


@flow
def tells(*decisions: Decision) -> None:
    for decision in decisions:
        keep(decision)


def decision(action: Any, alarm: bool = False, **figures: Any) -> Decision:
    return Decision("sketches", action, f"Because of {action}.", version="1", figures=figures, alarm=alarm)


def test_an_alarm_is_told_once_while_it_stands(board: list[dict[str, str]]):
    alarm = {"alarm": True, "sufficient": True, "detected": True}
    quiet = {"sufficient": True, "detected": False}
    tells(decision("notice", sufficient=True, detected=True))
    assert board == [], "a notice is no alarm"
    tells(decision("ask-for-labels", **alarm), decision("ask-for-labels", **alarm), decision("retrain", **alarm))
    assert board == [{"subject": "sketches: alarm", "body": "Because of ask-for-labels."}]
    tells(decision("nothing", **quiet), decision("ask-for-labels", **alarm))
    assert len(board) == 2


def test_promotions_rollbacks_and_wanted_approvals_are_told(board: list[dict[str, str]]):
    @flow
    def moves() -> None:
        announce(MODEL_PROMOTED, "sketches", version="2", generation=2)
        announce(MODEL_ROLLED_BACK, "sketches", version="1", reason="it errs")

    moves()
    assert [one["subject"] for one in board] == ["sketches: version 2 was promoted", "sketches: back to version 1"]
    assert board[1]["body"] == "it errs"
    waits = decision("approve")
    tells(waits, decision("approve"))
    assert len(board) == 3, "the second waits for the same person"
    assert board[2]["subject"] == "sketches: an approval is wanted"
    assert f"menagerie approve {waits.id}" in board[2]["body"]


def test_nobody_is_told_by_default(board: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MENAGERIE_NOTIFY")
    get_settings.cache_clear()
    tells(decision("ask-for-labels", alarm=True))
    assert board == []


def test_what_fails_is_logged_without_its_address_and_the_others_are_told(
    board: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    webhook("away", f"http://127.0.0.1:{free_port()}/secret")
    told_to(monkeypatch, "custom-webhook/away, custom-webhook/nobody, custom-webhook/ops")
    tells(decision("ask-for-labels", alarm=True))
    assert len(board) == 1
    warned = [record.getMessage() for record in caplog.records if "was not told" in record.getMessage()]
    assert [said.split()[0] for said in warned] == ["custom-webhook/away", "custom-webhook/nobody"]
    assert "ConnectError" in warned[0]
    assert "secret" not in caplog.text


class Smtp(socketserver.StreamRequestHandler):
    """Takes every mail."""

    def handle(self) -> None:
        mail = self.server.mail  # type: ignore[attr-defined]
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline().strip().upper():
            if line.startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                while (text := self.rfile.readline()) != b".\r\n":
                    mail.append(text.decode())
            self.wfile.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 ok\r\n")


def test_mail(monkeypatch: pytest.MonkeyPatch):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp) as server:
        server.mail = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"mailto://127.0.0.1:{server.server_address[1]}/?from=menagerie@example.org&to=ann@example.org&mode=insecure"
        Email(url=url).save("ann", overwrite=True)
        told_to(monkeypatch, "email-smtp/ann")
        tells(decision("ask-for-labels", alarm=True))
        mail = "".join(server.mail)  # type: ignore[attr-defined]
        server.shutdown()
    assert re.search(r"^Subject: .*alarm", mail, re.MULTILINE)
    assert "ann@example.org" in mail


@pytest.fixture
def spent(problems_dir: Path, tmp_path: Path, home: Path) -> str:
    """A problem with an alarm that stands, the labels that a retraining needs, and no budget left today."""
    name = tiny.write_table(problems_dir)
    path = problems_dir / f"{name}.toml"
    path.write_text(path.read_text().replace("cooldown_minutes = 0", "cooldown_minutes = 0\ndaily_budget = 1"))
    problem, channel, journal = load_problem(name), open_channel(), open_journal()
    made = make_table_artefact(tmp_path / "made", name, problem.input.columns)
    channel.publish(made)
    channel.promote(name, ModelRef("1", made.fingerprint), who="test", why="a test")
    (home / "cache").mkdir(exist_ok=True)
    (home / "cache" / f"aliases-{name}").write_text("1")  # there is no registry to follow
    journal.record([prediction(number, problem=name, fingerprint=made.fingerprint) for number in range(48)])
    for number in range(48):
        journal.add_feedback(voice(f"p{number}", "low", trusted=True), labels=problem.classes)
    journal.add_decision(Decision(name, "ask-for-labels", "Alarm.", "1", {"sufficient": True}, alarm=True))
    journal.add_decision(asked := Decision(name, "retrain", "A test.", "1"))
    end(name, asked)
    return name


def end(name: str, asked: Decision) -> None:
    """As a retraining that came to nothing."""
    open_journal().add_decision(Decision(name, "nothing", "Ended.", "1", {"asked_by": asked.id}))


def kept(name: str, action: Any) -> list[Decision]:
    return open_journal().decisions(name, action=action)


def test_beyond_the_budget_a_person_decides(spent: str, board: list[dict[str, str]]):
    for _ in range(3):
        assert check(spent) == {spent: "approve"}
    (waits,) = kept(spent, "approve")
    assert "today's budget of 1 retrainings is spent" in waits.reason
    assert [one["subject"] for one in board] == [f"{spent}: an approval is wanted"], "the alarm was known before"
    assert str(retrain(spent, decision_id=waits.id)["reason"]).startswith(f"decision {waits.id} was not approved")
    assert len(kept(spent, "retrain")) == 1, "it waits for a person"
    assert main(["approve", waits.id]) == 0
    assert check(spent) == {spent: "retrain"}
    assert "approved another one" in kept(spent, "retrain")[0].reason
    assert check(spent) == {spent: "nothing"}, "it has not ended"
    end(spent, kept(spent, "retrain")[0])
    assert check(spent) == {spent: "approve"}, "an approval is for one"


def test_a_parameter_of_the_flow_approves_too(spent: str):
    check(spent)
    (waits,) = kept(spent, "approve")
    outcome = retrain(spent, decision_id=waits.id, approved=True)
    assert str(outcome["reason"]).startswith("Nothing to learn from"), "it went on"
    assert kept(spent, "approve")[0].figures["approves"] == waits.id
    asked = kept(spent, "retrain")[0]
    assert asked.alarm, "as the decision that waited"
    assert open_journal().decisions(spent, limit=1)[0].figures["asked_by"] == asked.id


def test_asking_by_hand_is_a_record(spent: str):
    retrain(spent, reason="a new camera")
    end, asked = open_journal().decisions(spent, limit=2)
    assert (asked.action, asked.reason, asked.figures) == ("retrain", "a new camera", {"by_hand": True})
    assert (end.action, end.figures["asked_by"], end.figures["promoted"]) == ("nothing", asked.id, False)


def test_a_retraining_that_breaks_is_a_record_and_its_labels_still_count(spent: str, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(flows.retrain, "collect_labels", broken)
    with pytest.raises(OSError, match="no space left"):
        retrain(spent)
    end = open_journal().decisions(spent, limit=1)[0]
    assert "no space left" in end.reason
    assert "judged_until" not in end.figures


def test_one_that_is_cancelled_is_a_record_too(spent: str, monkeypatch: pytest.MonkeyPatch):
    def cancelled(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(flows.retrain, "collect_labels", cancelled)
    with pytest.raises(KeyboardInterrupt):
        retrain(spent)
    assert open_journal().decisions(spent, limit=1)[0].reason == "The retraining failed: KeyboardInterrupt()"


def test_one_that_is_killed_ends_when_it_shows_no_life(spent: str, home: Path):
    journal = open_journal()
    asked = Decision(spent, "retrain", "A test.", "1")
    journal.add_decision(asked)
    sign = home / "cache" / f"retrain-{asked.id}"
    check(spent)
    assert under_way(journal.decisions(spent)) == asked, "it has not begun"
    with living(retraining_of(asked.id)):
        check(spent)
        assert under_way(journal.decisions(spent)) == asked, "it lives"
        os.utime(sign, (0, 0))
        check(spent)
    assert not sign.exists(), "it has ended by itself"
    end = next(one for one in journal.decisions(spent) if one.figures.get("asked_by") == asked.id)
    assert "killed: it has shown no life since 00:00:00 UTC" in end.reason
    assert "judged_until" not in end.figures, "its labels start another one"
    assert under_way(journal.decisions(spent)) is None


def test_a_retraining_shows_life_while_it_goes_on(spent: str, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flows.life, "BEAT_SECONDS", 0.01)
    beats: list[int] = []

    def learns(_: object) -> Any:
        (sign,) = (home / "cache").glob("retrain-*")
        os.utime(sign, (0, 0))
        until = time.monotonic() + 10
        while sign.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
        beats.append(int(sign.stat().st_mtime))
        raise OSError("it breaks")

    monkeypatch.setattr(flows.retrain, "collect_labels", learns)
    with pytest.raises(OSError, match="it breaks"):
        retrain(spent)
    assert beats != [0], "nothing touched it"


def learn_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A retraining that has a label and makes no version: only what comes of it is looked at."""
    gathered = Gathered([Row("p", "s", "s", "low", "train", "feedback", "live", "2026-01-01")], 0, 0, until=48)
    monkeypatch.setattr(flows.retrain, "collect_labels", lambda _: gathered)
    monkeypatch.setattr(flows.retrain, "learn", lambda *_, **__: None)
    monkeypatch.setattr(flows.retrain, "prepare_data", lambda *_: None)
    monkeypatch.setattr(flows.retrain, "champion_to_go_on_from", lambda _: None)


def test_a_refusal_is_told_and_wants_other_labels_while_the_alarm_stands(
    spent: str, board: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
):
    refusal = {"promoted": False, "version": "2", "reason": "robustness", "refused_by": "robustness"}
    learn_nothing(monkeypatch)
    for helps, action in ((True, "ask-for-labels"), (False, "nothing")):
        monkeypatch.setattr(flows.retrain, "promote", lambda *_, **__: refusal | {"needs_labels": helps})  # noqa: B023
        retrain(spent)
        end = open_journal().decisions(spent, limit=1)[0]
        assert (end.action, end.alarm, end.figures["refused_by"]) == (action, True, "robustness")
        assert ("labels that this one did not look at" in end.reason) is helps
        assert board[-1] == {"subject": f"{spent}: version 2 was refused", "body": end.reason}
    assert check(spent) == {spent: "ask-for-labels"}, "all labels have been looked at"


@pytest.mark.parametrize("head", ["logistic", "network"])
def test_a_head_that_gave_up_too_much_is_followed_by_one_that_keeps_more(
    spent: str, problems_dir: Path, monkeypatch: pytest.MonkeyPatch, head: str
):
    path = problems_dir / f"{spent}.toml"
    path.write_text(path.read_text().replace("[training]", f'[training]\nhead = "{head}"'))
    shares: list[float] = []
    refusal = {"promoted": False, "version": "2", "reason": "r", "refused_by": "robustness", "needs_labels": True}
    learn_nothing(monkeypatch)
    monkeypatch.setattr(flows.retrain, "prepare_data", lambda problem, _: shares.append(problem.training.keep))
    said = []
    for gave_up in (True, True, False, False):
        monkeypatch.setattr(flows.retrain, "promote", lambda *_, **__: refusal | {"gave_up": gave_up})  # noqa: B023
        retrain(spent)
        said.append(open_journal().decisions(spent, limit=1)[0].reason)
    assert shares == pytest.approx([0.3, 0.65, 0.825, 0.3] if head == "logistic" else [0.3] * 4)
    told = ["It keeps 0.65 of the old head instead of 0.3." in said[0], "instead of 0.65." in said[1]]
    assert told == [head == "logistic"] * 2
    assert not any("It keeps" in reason for reason in said[2:])
