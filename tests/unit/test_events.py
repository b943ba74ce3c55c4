"""Events as JSON: the kind, and every field."""

from __future__ import annotations

import dataclasses
import json

import pytest

from mountkit import events
from support.event_samples import KINDS, sample


def test_an_event_keeps_its_fields():
    event = events.FileProven(30, "model.safetensors", 1000, "crc64nvme", 1.5)
    assert events.to_json(event) == {
        "event": "FileProven",
        "step": 30,
        "path": "model.safetensors",
        "size": 1000,
        "attested_by": "crc64nvme",
        "seconds": 1.5,
    }


def test_the_names_of_before_are_understood_for_one_version_more():
    assert (events.SaveStarted, events.Trouble) == (events.ProofStarted, events.Problem)
    assert (events.MountGivenUp, events.Listening) == (events.MountFailed, events.EndpointStarted)
    for told in (events.UploadProgress(1, 2), events.SaveBlocked("why")):
        assert isinstance(told, events.Waiting)


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_json_and_nothing_is_lost(kind):
    event = sample(kind)
    content = json.loads(json.dumps(events.to_json(event)))
    name = content.pop("event")
    assert getattr(events, name)(**content) == event


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_cannot_be_changed(kind):
    event = sample(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, dataclasses.fields(kind)[0].name, "other")


def test_every_event_of_the_module_is_in_the_union():
    defined = {
        value
        for value in vars(events).values()
        if dataclasses.is_dataclass(value) and value.__module__ == events.__name__
    }
    assert defined == set(KINDS)


def test_the_silent_observer_takes_any():
    assert events.silent(events.Problem("x")) is None
