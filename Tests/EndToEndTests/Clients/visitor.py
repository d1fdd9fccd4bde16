# What the drivers of the documented Python clients share. Each run has a client address, and so a rate limit, of its own:
# a header that the stack under test believes goes into every request that the libraries send.
import os
import uuid

URL = os.environ["THECLOUD_TEST_URL"]
ADDRESS = {"X-Forwarded-For": os.environ["CLIENT_ADDRESS"]}


def with_address(method):
    """The same method of a library's client, with the header."""

    def call(*arguments, **options):
        return method(*arguments, **{**options, "headers": {**ADDRESS, **(options.get("headers") or {})}})

    return call


def fresh():
    """A name that nobody has."""
    return "e2e-" + str(uuid.uuid4())[:18]
