# The documented Python client of Chat: a client application makes a user, logs it in, and the user says something in a room.
import asyncio

import httpx

from chat_api_client import ChatAPIClient
from visitor import URL, fresh, with_address

httpx.AsyncClient.__init__ = with_address(httpx.AsyncClient.__init__)
API = f"{URL}/api/v1"


async def call(method, path, key=None, **options):
    async with httpx.AsyncClient() as client:
        return await client.request(method, API + path, headers={"Authorization": f"Bearer {key}"} if key else {}, **options)


async def main():
    made = await call("POST", "/clients", json={"name": "My Chat App", "description": "Customer support chat system"})
    assert made.status_code == 201 and made.json()["master_api_key"].startswith("ck_live_"), made.text
    master = made.json()["master_api_key"]
    client = ChatAPIClient(master, API)

    email = f"{fresh()}@example.com"
    user = await client.create_user({"email": email, "username": "user123", "full_name": "User Name"})
    assert user["scoped_api_key"].startswith("sk_user_") and user["email"] == email and user["is_active"] is True, user
    login = await client.login_user(email)
    key = login["scoped_api_key"]
    assert key != user["scoped_api_key"] and login["user"]["id"] == user["id"] and login["expires_at"], login

    room = await call("POST", "/rooms", master, json={"name": "Support"})
    assert room.status_code == 201, room.text
    joined = await call("POST", "/rooms/join", key, json={"room_id": room.json()["id"]})
    assert joined.status_code == 200, joined.text
    words = {"room_id": room.json()["id"], "content": "Hello from Python!", "message_type": "text"}
    message = await client.send_message(key, words)
    assert words.items() <= message.items(), message
    read = await call("GET", "/messages", key, params={"room_id": room.json()["id"]})
    assert read.status_code == 200 and message["id"] in read.text, read.text

    refused = await client.send_message(user["scoped_api_key"], words)
    documented = {"detail": "Invalid authentication credentials", "error_code": "INVALID_CREDENTIALS", "status_code": 401}
    assert documented.items() <= refused.items(), refused


asyncio.run(main())
